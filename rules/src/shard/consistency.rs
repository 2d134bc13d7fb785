//! Whether the object of a live map is consistent in itself.

use super::key::{ShardKey, ShardKeys};
use super::object::{EPOCH_MAX, MapObject, MoveStage, RANGES_MAX, StoredRange};
use super::range::{FILE_EPOCH, RangeState, interval};

impl MapObject {
    /// Whether the object is consistent in itself.
    ///
    /// # Errors
    /// One sentence that names the first contradiction.
    pub fn check(&self) -> Result<(), String> {
        if self.epoch <= FILE_EPOCH || self.epoch > EPOCH_MAX {
            return Err(format!("epoch {} is not between 2 and 2^53", self.epoch));
        }
        if self.ranges.is_empty() || self.ranges.len() > RANGES_MAX {
            return Err(format!("{} ranges where 1 to {RANGES_MAX} are known", self.ranges.len()));
        }
        let bounds = self.bounds()?;
        let mut pairs = bounds.iter().zip(bounds.iter().skip(1));
        if let Some((lower, upper)) = pairs.find(|(lower, upper)| lower >= upper) {
            let show =
                |key: &Option<ShardKey>| key.as_ref().map_or("-".to_owned(), ShardKey::to_string);
            return Err(format!("bound {} comes after {}", show(upper), show(lower)));
        }
        let sinces = self.ranges.iter().map(|range| range.since);
        let sinces = sinces.chain(self.outside.iter().map(|own| own.since));
        if let Some(since) = sinces.into_iter().find(|since| *since == 0 || *since > self.epoch) {
            return Err(format!("an owner since epoch {since} in epoch {}", self.epoch));
        }
        self.check_move()
    }

    /// The lower bounds, then the upper end where the last range has one.
    fn bounds(&self) -> Result<Vec<Option<ShardKey>>, String> {
        let froms = self.ranges.iter().map(|range| range.from.as_deref());
        let mut bounds = Vec::with_capacity(self.ranges.len() + 1);
        for (at, from) in froms.enumerate() {
            if from.is_none() && at > 0 {
                return Err("only the first range may be open below".to_owned());
            }
            bounds.push(from.map(|from| self.key(from)).transpose()?);
        }
        if let Some(until) = &self.until {
            bounds.push(Some(self.key(until)?));
        }
        Ok(bounds)
    }

    /// A bound, which must be in canonical form.
    pub(super) fn key(&self, text: &str) -> Result<ShardKey, String> {
        let key = ShardKey::parse(self.key_type, text).filter(|key| key.to_string() == text);
        key.ok_or_else(|| {
            format!("`{text}` is no canonical key of type {}", self.key_type.as_str())
        })
    }

    /// Whether one of these keys lies in the range that moves.
    pub fn moves(&self, keys: &ShardKeys) -> bool {
        let Some(moving) = &self.moving else { return false };
        let bound = |text: &Option<String>| {
            text.as_deref().and_then(|text| ShardKey::parse(self.key_type, text))
        };
        let (from, until) = (bound(&moving.from), bound(&moving.until));
        keys.as_slice().iter().any(|key| {
            from.as_ref().is_none_or(|from| from <= key)
                && until.as_ref().is_none_or(|until| key < until)
        })
    }

    /// A range is announced or fenced if and only if the move says so, and belongs to its source.
    fn check_move(&self) -> Result<(), String> {
        let Some(moving) = &self.moving else {
            let stray = self.ranges.iter().find(|range| range.state != RangeState::Active);
            return stray.map_or(Ok(()), |range| {
                Err(format!("a range is {} and nothing moves", range.state.as_str()))
            });
        };
        let state = match moving.stage {
            MoveStage::Announced => RangeState::Announced,
            MoveStage::Fenced => RangeState::Fenced,
        };
        let covered = self.covered(moving.from.as_deref(), moving.until.as_deref())?;
        for (at, range) in self.ranges.iter().enumerate() {
            let expected = if covered.contains(&at) { state } else { RangeState::Active };
            let is_the_sources = !covered.contains(&at) || range.shard == moving.source;
            if range.state != expected || !is_the_sources {
                let from = range.from.as_deref().unwrap_or("-");
                return Err(format!("the range from {from} is not what the move says of it"));
            }
        }
        let is_id = moving.id.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_".contains(&it));
        if moving.id.is_empty() || moving.id.len() > 64 || !is_id {
            return Err("the move has no usable id".to_owned());
        }
        if moving.source == moving.target {
            return Err("the move leads to the owner itself".to_owned());
        }
        Ok(())
    }

    /// The positions of the ranges that make up exactly this interval.
    ///
    /// # Errors
    /// When no whole ranges do.
    pub(super) fn covered(
        &self,
        from: Option<&str>,
        until: Option<&str>,
    ) -> Result<std::ops::Range<usize>, String> {
        let none = || format!("no ranges make up {}", interval(from, until));
        let begins = |range: &StoredRange| range.from.as_deref() == from;
        let first = self.ranges.iter().position(begins).ok_or_else(none)?;
        let end = if until == self.until.as_deref() {
            self.ranges.len()
        } else {
            let ends = |range: &StoredRange| until.is_some() && range.from.as_deref() == until;
            self.ranges.iter().position(ends).ok_or_else(none)?
        };
        if first < end { Ok(first..end) } else { Err(none()) }
    }
}
