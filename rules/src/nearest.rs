//! Suggests the name that a misspelt one was probably meant to be.

/// Words that differ by more letters than this are different words.
const LETTERS_MAX: usize = 2;

/// The known name within two letters of this one; of several, the first in alphabetical order.
pub fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k &'k str>) -> Option<&'k str> {
    known
        .into_iter()
        .map(|key| (distance(name, key), *key))
        .filter(|(distance, _)| *distance <= LETTERS_MAX)
        .min()
        .map(|(_, key)| key)
}

/// The Levenshtein distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, letter) in left.chars().enumerate() {
        let mut next = vec![index + 1];
        for (column, other) in right.iter().enumerate() {
            let get = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX - 1);
            let replaced = get(&row, column) + usize::from(letter != *other);
            let best = replaced.min(get(&row, column + 1) + 1).min(get(&next, column) + 1);
            next.push(best);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}
