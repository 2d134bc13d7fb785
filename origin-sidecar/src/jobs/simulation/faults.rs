//! Seeded choices. Nothing else decides what happens in a schedule.

use crate::secrets::drawn;

/// splitmix64: eight bytes of state, and every seed is a good one.
#[derive(Debug, Clone)]
pub(super) struct Rng(u64);

impl Rng {
    fn hex(&mut self, bytes: usize) -> String {
        let mut text = String::with_capacity(bytes * 2);
        while text.len() < bytes * 2 {
            text.push_str(&format!("{:016x}", self.next()));
        }
        text.truncate(bytes * 2);
        text
    }

    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// Both ends included.
    pub(super) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    pub(super) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        let at = self.below(of.len() as u64);
        of[usize::try_from(at).unwrap_or(0)]
    }
}

/// Until the end of the schedule, ids are drawn from its seed: the store lists them in the same
/// order when the schedule is run again.
pub(super) fn seed_system(seed: Option<u64>) {
    drawn::set(seed.map(|seed| {
        let mut rng = Rng::new(seed);
        Box::new(move |bytes| rng.hex(bytes)) as drawn::Source
    }));
}

/// How often things go wrong in one schedule, per mille of the calls. Each kind of trouble is
/// absent from half of the schedules: what is always there hides what it would take to see others.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weather {
    pub slow: u64,
    pub refused: u64,
    pub lost: u64,
    /// Takes effect after the caller was told that it failed.
    pub stray: u64,
    /// Delivered again while the first delivery is being worked on.
    pub duplicated: u64,
    /// Delivered again although it was deleted.
    pub undead: u64,
    pub is_reordered: bool,
    /// Receipts of earlier deliveries still work.
    pub takes_old_receipts: bool,
    pub app_refuses: u64,
    pub app_fails: u64,
    pub app_breaks: u64,
    pub app_stalls: u64,
}

impl Weather {
    pub(super) fn drawn(rng: &mut Rng) -> Self {
        let mut some = |most: u64| if rng.chance(500) { rng.between(1, most) } else { 0 };
        Self {
            slow: some(60),
            refused: some(60),
            lost: some(60),
            stray: some(20),
            duplicated: some(300),
            undead: some(200),
            is_reordered: some(1) > 0,
            takes_old_receipts: some(1) > 0,
            app_refuses: some(150),
            app_fails: some(300),
            app_breaks: some(150),
            app_stalls: some(80),
        }
    }
}

/// What becomes of one call over the network; times in milliseconds from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Course {
    /// `None`: it never arrives.
    pub effect: Option<u64>,
    pub answer: u64,
    /// Otherwise the caller is told that it failed, whatever became of it.
    pub is_told: bool,
}

impl Course {
    /// `bound` is what the caller's library waits at most.
    pub(super) fn drawn(rng: &mut Rng, weather: &Weather, bound: u64) -> Self {
        let roll = rng.below(1000);
        let failing = |rng: &mut Rng| if rng.chance(400) { bound } else { rng.below(20) };
        let mut most = weather.refused;
        if roll < most {
            return Self { effect: None, answer: failing(rng), is_told: false };
        }
        most += weather.lost;
        if roll < most {
            let effect = rng.below(10);
            return Self { effect: Some(effect), answer: effect + failing(rng), is_told: false };
        }
        most += weather.stray;
        if roll < most {
            let effect = bound + rng.below(5_000);
            return Self { effect: Some(effect), answer: bound, is_told: false };
        }
        most += weather.slow;
        if roll < most {
            let effect = rng.below(bound);
            return Self {
                effect: Some(effect),
                answer: rng.between(effect, bound),
                is_told: true,
            };
        }
        let effect = if roll.is_multiple_of(4) { rng.below(8) } else { 0 };
        Self { effect: Some(effect), answer: effect + rng.pick(&[0, 1, 3, 20]), is_told: true }
    }

    pub(super) fn refused(rng: &mut Rng, bound: u64) -> Self {
        let answer = if rng.chance(500) { bound } else { 2 };
        Self { effect: None, answer, is_told: false }
    }

    /// Nothing that a caller could notice.
    pub(super) fn is_smooth(&self) -> bool {
        self.is_told && self.answer < 50
    }
}
