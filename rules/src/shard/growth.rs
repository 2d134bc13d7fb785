//! Changes of a live map that move no data: it grows at its ends, ranges are split and merged.

use super::change::ChangeRefusal;
use super::object::{Changed, MapObject, StoredRange};
use super::range::RangeState;

impl MapObject {
    /// Gives keys above the last range, which nobody held, to a shard; `until` none: all of them.
    ///
    /// # Errors
    /// When a move is under way, or somebody holds these keys.
    pub fn extend_above(
        &self,
        until: Option<String>,
        shard: String,
        changed: Changed,
    ) -> Result<Self, ChangeRefusal> {
        self.check_idle()?;
        let end = self.unheld(self.until.as_ref(), "above")?;
        let bad = ChangeRefusal::BadRange;
        if let Some(until) = &until
            && self.key(until).map_err(bad)? <= self.key(&end).map_err(bad)?
        {
            return Err(bad(format!("the map ends at {end} already")));
        }
        let mut next = self.next(changed)?;
        let (since, state) = (next.epoch, RangeState::Active);
        next.ranges.push(StoredRange { from: Some(end), shard, since, state });
        next.until = until;
        next.checked()
    }

    /// Gives keys below the first range, which nobody held, to a shard; `from` none: all of them.
    ///
    /// # Errors
    /// When a move is under way, or somebody holds these keys.
    pub fn extend_below(
        &self,
        from: Option<String>,
        shard: String,
        changed: Changed,
    ) -> Result<Self, ChangeRefusal> {
        self.check_idle()?;
        let first = self.ranges.first().and_then(|range| range.from.as_ref());
        let end = self.unheld(first, "below")?;
        let bad = ChangeRefusal::BadRange;
        if let Some(from) = &from
            && self.key(from).map_err(bad)? >= self.key(&end).map_err(bad)?
        {
            return Err(bad(format!("the map begins at {end} already")));
        }
        let mut next = self.next(changed)?;
        let (since, state) = (next.epoch, RangeState::Active);
        next.ranges.insert(0, StoredRange { from, shard, since, state });
        next.checked()
    }

    /// Makes one range two, with the same owner: a part may move later, and is counted apart at once.
    ///
    /// # Errors
    /// When a move is under way, or no range holds the key, or one begins there.
    pub fn split(&self, at: &str, changed: Changed) -> Result<Self, ChangeRefusal> {
        self.check_idle()?;
        let mut next = self.next(changed)?;
        if !next.cut(at)? {
            return Err(ChangeRefusal::BadRange(format!("a range begins at {at} already")));
        }
        next.checked()
    }

    /// Makes the two ranges that meet at a key one.
    ///
    /// # Errors
    /// When a move is under way, no two ranges of one owner meet there.
    pub fn merge(&self, at: &str, changed: Changed) -> Result<Self, ChangeRefusal> {
        self.check_idle()?;
        let mut next = self.next(changed)?;
        let begins = |range: &StoredRange| range.from.as_deref() == Some(at);
        let bad = |why: String| ChangeRefusal::BadRange(why);
        let found = next.ranges.iter().position(begins).filter(|position| *position > 0);
        let position = found.ok_or_else(|| bad(format!("no two ranges meet at {at}")))?;
        let removed = next.ranges.remove(position);
        let Some(left) = next.ranges.get_mut(position - 1) else {
            return Err(ChangeRefusal::NoSuchMove);
        };
        if left.shard != removed.shard {
            return Err(ChangeRefusal::SeveralOwners);
        }
        // The later epoch counts: since then both ranges have had this owner, so no older cached answer is
        // used.
        left.since = left.since.max(removed.since);
        // However large it is: this is how it becomes smaller.
        next.check().map_err(bad)?;
        Ok(next)
    }

    /// The end of the map that may be moved outwards.
    fn unheld(&self, end: Option<&String>, side: &str) -> Result<String, ChangeRefusal> {
        if let Some(outside) = &self.outside {
            return Err(ChangeRefusal::BadRange(format!(
                "shard `{}` holds all keys {side} the ranges (`outside`)",
                outside.shard
            )));
        }
        let open =
            || ChangeRefusal::BadRange(format!("the map is open {side}: a range holds these keys"));
        end.cloned().ok_or_else(open)
    }
}
