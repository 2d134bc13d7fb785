//! All states that can be reached, nearest first, so that the way to one that breaks an invariant is a shortest.

use super::invariants::Invariant;
use super::model::{Model, Step};
use super::world::World;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// More states than any search here has: one that finds no end stops instead of filling the memory.
const STATES_MAX: usize = 4_000_000;

/// What a search has found.
pub struct Found {
    /// All states, up to the first that breaks an invariant.
    pub worlds: Vec<World>,
    pub broken: Option<BrokenPath>,
}

/// An invariant, and the shortest way to a state that breaks it.
pub struct BrokenPath {
    pub invariant: Invariant,
    /// Each step, with the state to which it leads.
    pub steps: Vec<(Step, World)>,
}

/// Of codes that differ in few bits: a product mixes them, and its upper half is as good as any.
#[derive(Default)]
struct CodeHasher(u64);

impl Hasher for CodeHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("codes are numbers");
    }

    fn write_u128(&mut self, code: u128) {
        let (low, high) = (code as u64, (code >> 64) as u64);
        let product = u128::from(low ^ high.rotate_left(32)) * 0x9E37_79B9_7F4A_7C15;
        self.0 = low.wrapping_add(product as u64 ^ (product >> 64) as u64);
        self.0 = self.0.wrapping_mul(0xD6E8_FEB8_6659_FD93).rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type Codes = HashMap<u128, u32, BuildHasherDefault<CodeHasher>>;

/// The states so far, in the order in which they were found.
struct Search<'a> {
    model: &'a Model,
    known: Codes,
    worlds: Vec<World>,
    /// From which state, by which step, each was found first.
    origins: Vec<(u32, Step)>,
    /// To which states each leads: up to `ends[state]` in `successors`.
    successors: Vec<u32>,
    ends: Vec<usize>,
}

/// Explores everything, or up to the first state that breaks an invariant.
pub fn search(model: &Model) -> Found {
    let mut search = Search {
        model,
        known: Codes::default(),
        worlds: Vec::new(),
        origins: Vec::new(),
        successors: Vec::new(),
        ends: Vec::new(),
    };
    let start = search.add(World::new(), (0, Step::Lead(0)));
    debug_assert_eq!(start, 0);
    let broken = search.run();
    Found { worlds: search.worlds, broken }
}

impl Search<'_> {
    fn add(&mut self, world: World, origin: (u32, Step)) -> u32 {
        let number = u32::try_from(self.worlds.len()).expect("few states");
        let known = *self.known.entry(world.code()).or_insert(number);
        if known == number {
            self.worlds.push(world);
            self.origins.push(origin);
            assert!(self.worlds.len() < STATES_MAX, "more than {STATES_MAX} states");
        }
        known
    }

    fn run(&mut self) -> Option<BrokenPath> {
        let mut state = 0;
        while state < self.worlds.len() {
            let world = self.worlds[state];
            if let Some(invariant) = self.model.broken_by(&world) {
                return Some(self.path(invariant, state));
            }
            let number = u32::try_from(state).expect("few states");
            let model = self.model;
            model.steps(&world, &mut |step, next| {
                let next = self.add(next, (number, step));
                self.successors.push(next);
            });
            self.ends.push(self.successors.len());
            state += 1;
        }
        self.without_end()
    }

    /// A state from which the move, or its abort, can't end any more.
    fn without_end(&self) -> Option<BrokenPath> {
        let model = self.model;
        let predecessors = Predecessors::new(self);
        let settled = self.worlds.iter().map(|world| model.is_settled(world)).collect();
        let can_end = predecessors.leading_to(settled);
        if let Some(state) = can_end.iter().position(|can_end| !can_end) {
            return Some(self.path(Invariant::MoveCanEnd, state));
        }
        let is_aborted =
            |world: &World| model.is_settled(world) && model.book.is_aborted(world.store);
        let aborted = self.worlds.iter().map(is_aborted).collect();
        let can_abort = predecessors.leading_to(aborted);
        let is_stuck =
            |(world, can_abort): (&World, &bool)| model.may_turn_back(world) && !can_abort;
        let stuck = self.worlds.iter().zip(&can_abort).position(is_stuck)?;
        Some(self.path(Invariant::AbortCanEnd, stuck))
    }

    fn path(&self, invariant: Invariant, mut state: usize) -> BrokenPath {
        let mut steps = Vec::new();
        while state != 0 {
            let (before, step) = self.origins[state];
            steps.push((step, self.worlds[state]));
            state = before as usize;
        }
        steps.reverse();
        BrokenPath { invariant, steps }
    }
}

/// From which states each state can be reached in one step.
struct Predecessors {
    states: Vec<u32>,
    /// Where those of a state begin in `states`; they end where those of the next do.
    begins: Vec<usize>,
}

impl Predecessors {
    fn new(search: &Search<'_>) -> Self {
        let mut begins = vec![0; search.worlds.len() + 1];
        for next in &search.successors {
            begins[*next as usize + 1] += 1;
        }
        for state in 1..begins.len() {
            begins[state] += begins[state - 1];
        }
        let mut states = vec![0; search.successors.len()];
        let (mut places, mut begin) = (begins.clone(), 0);
        for (state, end) in (0_u32..).zip(&search.ends) {
            for next in &search.successors[begin..*end] {
                let place = &mut places[*next as usize];
                states[*place] = state;
                *place += 1;
            }
            begin = *end;
        }
        Self { states, begins }
    }

    /// For each state, whether one of those that are meant can be reached from it.
    fn leading_to(&self, meant: Vec<bool>) -> Vec<bool> {
        let mut leads = meant;
        let mut open: Vec<usize> = (0..leads.len()).filter(|state| leads[*state]).collect();
        while let Some(state) = open.pop() {
            for before in &self.states[self.begins[state]..self.begins[state + 1]] {
                if !std::mem::replace(&mut leads[*before as usize], true) {
                    open.push(*before as usize);
                }
            }
        }
        leads
    }
}
