//! What the coordinator of a move makes of what the members have told it.

use super::change::ChangeRefusal;
use super::object::{MapObject, MoveStage};
use super::protocol::{Ack, Hindrance, hindrance};

/// One member of a move, by what it said or by where it was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveMember {
    /// Pod name, or the address where that is not known.
    pub who: String,
    /// What it said; none: it has not answered.
    pub ack: Option<Ack>,
    /// Why there is no ack.
    pub detail: String,
}

/// A member that has not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Laggard {
    /// As [`MoveMember::who`].
    pub who: String,
    /// What keeps it.
    pub why: Hindrance,
    /// As [`MoveMember::detail`].
    pub detail: String,
}

/// What lets a move go on without some of its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Excuses<'a> {
    /// Members that a person left out by name.
    pub without: &'a [String],
    /// Whether the owner itself refuses writes of the range: a member that does not follow can't misplace any.
    pub owner_is_fenced: bool,
}

/// What the members of a move said when all of them were asked once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Round {
    /// Names of those that have followed.
    pub followed: Vec<String>,
    /// Those that have not.
    pub laggards: Vec<Laggard>,
}

/// What comes after a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterRound {
    /// All that are needed have followed.
    Followed,
    /// All have, some for the first time: they are asked once more, at once.
    Confirm,
    /// Some may follow yet.
    AskAgain,
    /// These have not, and the move can't go on so.
    Over(Vec<Laggard>),
}

/// Judges what the members said. `map_rules` as for [`hindrance`].
pub fn judge(object: &MapObject, map_rules: &str, members: &[MoveMember]) -> Round {
    let mut round = Round::default();
    for MoveMember { who, ack, detail } in members {
        match hindrance(object, map_rules, ack.as_ref()) {
            None => round.followed.push(who.clone()),
            Some(why) => {
                round.laggards.push(Laggard { who: who.clone(), why, detail: detail.clone() });
            }
        }
    }
    round
}

/// What keeps the map from becoming that of the rules file again: a member that does not follow `object`, or starts
/// with other ranges than those whose hash is `seed`.
pub fn not_retired(
    object: &MapObject,
    map_rules: &str,
    seed: &str,
    members: &[MoveMember],
) -> Vec<Laggard> {
    let mut laggards = judge(object, map_rules, members).laggards;
    let follows = members.iter().filter(|own| laggards.iter().all(|lag| lag.who != own.who));
    let differ = follows.filter(|own| own.ack.as_ref().is_some_and(|ack| ack.seed != seed));
    let differ = differ.map(|own| Laggard {
        who: own.who.clone(),
        why: Hindrance::Unfit("its rules file has other ranges".to_owned()),
        detail: String::new(),
    });
    let differ: Vec<Laggard> = differ.collect();
    laggards.extend(differ);
    laggards
}

/// Decides whether the members are asked again. `before`: the names of those that had followed in the round
/// before this; `is_over`: no time is left to wait for those that have not.
///
/// Without a fenced owner, the same processes must have followed twice in a row. A process that can't reach the
/// store starts with the map of another one: it may begin after the members were listed, and learn the old map
/// from one of them that has not followed yet. Once all that are listed had followed before, nobody has an old
/// map to pass on.
pub fn after_round(
    round: Round,
    before: &[String],
    excuses: Excuses<'_>,
    is_over: bool,
) -> AfterRound {
    let Round { followed, mut laggards } = round;
    laggards.retain(|own| !excuses.without.contains(&own.who));
    let is_hopeless = laggards.iter().any(|own| !own.why.may_pass());
    if !laggards.is_empty() && !is_hopeless && !is_over {
        return AfterRound::AskAgain;
    }
    laggards.retain(|own| !excuses.owner_is_fenced || !own.why.may_pass());
    if !laggards.is_empty() {
        return AfterRound::Over(laggards);
    }
    let is_confirmed = excuses.owner_is_fenced || followed.iter().all(|own| before.contains(own));
    if is_confirmed { AfterRound::Followed } else { AfterRound::Confirm }
}

/// Whether a move may only be committed once its members have followed. Past its point of no return they
/// were judged before: what is not fit now is no reason to stay.
///
/// # Errors
/// When the move is not at the stage from which it is committed.
pub fn needs_members(object: &MapObject) -> Result<bool, ChangeRefusal> {
    let moving = object.moving.as_ref().ok_or(ChangeRefusal::NoSuchMove)?;
    match moving.stage {
        MoveStage::Announced => Err(ChangeRefusal::WrongStage("only announced: fence it first")),
        MoveStage::Fenced => Ok(!moving.no_return),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laggard(who: &str, why: Hindrance) -> Laggard {
        Laggard { who: who.to_owned(), why, detail: String::new() }
    }

    fn after(
        followed: &[&str],
        laggards: &[Laggard],
        before: &[&str],
        is_over: bool,
    ) -> AfterRound {
        excused(followed, laggards, before, Excuses::default(), is_over)
    }

    fn excused(
        followed: &[&str],
        laggards: &[Laggard],
        before: &[&str],
        excuses: Excuses<'_>,
        is_over: bool,
    ) -> AfterRound {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let before: Vec<String> = names(before);
        let round = Round { followed: names(followed), laggards: laggards.to_vec() };
        after_round(round, &before, excuses, is_over)
    }

    #[test]
    fn the_same_processes_must_have_followed_twice_in_a_row() {
        assert_eq!(after(&["a", "b"], &[], &[], false), AfterRound::Confirm);
        assert_eq!(after(&["a", "b"], &[], &["a", "b", "c"], true), AfterRound::Followed);
        assert_eq!(after(&["a", "b-2"], &[], &["a", "b-1"], true), AfterRound::Confirm);
        let fenced = Excuses { owner_is_fenced: true, ..Excuses::default() };
        assert_eq!(excused(&["a"], &[], &[], fenced, false), AfterRound::Followed);
    }

    #[test]
    fn who_may_follow_yet_is_asked_until_the_time_is_over_and_who_cannot_is_not() {
        let silent = laggard("b", Hindrance::Silent);
        let unfit = laggard("c", Hindrance::Unfit("unbound".to_owned()));
        let both = [silent.clone(), unfit.clone()];
        let one = std::slice::from_ref(&silent);
        assert_eq!(after(&["a"], one, &["a"], false), AfterRound::AskAgain);
        assert_eq!(after(&["a"], one, &["a"], true), AfterRound::Over(one.to_vec()));
        assert_eq!(after(&["a"], &both, &["a"], false), AfterRound::Over(both.to_vec()));
        let fenced = Excuses { owner_is_fenced: true, ..Excuses::default() };
        assert_eq!(excused(&["a"], one, &[], fenced, true), AfterRound::Followed);
        assert_eq!(excused(&["a"], &both, &[], fenced, true), AfterRound::Over(vec![unfit]));
        let left_out = ["b".to_owned()];
        let without = Excuses { without: &left_out, ..Excuses::default() };
        assert_eq!(excused(&["a"], one, &["a"], without, false), AfterRound::Followed);
    }
}
