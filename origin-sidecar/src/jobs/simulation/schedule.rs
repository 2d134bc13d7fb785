//! One schedule: a world, its processes and clients, what befalls them, and the reckoning.

use super::client::{self, Plan};
use super::faults::{Rng, seed_system};
use super::process::Process;
use super::variants::Variant;
use super::world::World;
use super::{chaos, check, log, operator};
use crate::jobs::receives::receives;
use rules::Rules;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// In milliseconds, one of each set of rules.
pub(super) const VISIBILITIES: [u64; 3] = [6_000, 15_000, 33_000];
/// When nothing has come to rest until then, it never will.
const SETTLED_MS: u64 = 3 * 3_600_000;
const SETTLE_POLL: Duration = Duration::from_secs(3);
/// Longer than any lease that a clock set wrong can have written.
const LOOKS: u64 = 120;
const LOOK_POLL: Duration = Duration::from_secs(20);

static RULES: LazyLock<Vec<Arc<Rules>>> =
    LazyLock::new(|| (0..VISIBILITIES.len()).map(rules).collect());

/// The rules of one set.
pub(super) fn rules_of(set: usize) -> Arc<Rules> {
    Arc::clone(&RULES[set])
}

fn rules(set: usize) -> Arc<Rules> {
    let visibility = VISIBILITIES[set] / 1_000;
    let timeout = ["40s", "2m", "4m"][set];
    let (attempts, concurrency) = ([3, 4, 2][set], [1, 2, 4][set]);
    let notify = ["notify = { app = \"/hook\" }", "", "notify = { app = \"/hook\" }"][set];
    let after = check::SLOW_AFTER_MS;
    // Longer than all that goes wrong in a schedule, and shorter than a round of waiting.
    let wait = ["4m", "24h", "12m"][set];
    let caller = "{ check = \"/session\", identity = \"header:x-user\", keep = [\"X-User-Id\"] }";
    let mut text = format!(
        "[queue.jobs]\nvisibility = \"{visibility}s\"\njob_timeout = \"{timeout}\"\n\
         max_attempts = {attempts}\nconcurrency = {concurrency}\nwait_for_app = \"{wait}\"\n{notify}\n"
    );
    let mut route = |name: &str, rest: &str| {
        text.push_str(&format!(
            "[[route]]\nname = \"{name}\"\nmatch = {{ path = \"/{name}\" }}\n\
             [route.offload]\nqueue = \"jobs\"\n{rest}\n"
        ));
    };
    route("always", "when = \"always\"\nauth = \"none\"");
    route("keyed", &format!("when = \"always\"\nauth = {caller}"));
    route("safe", "when = \"always\"\nauth = \"none\"\nretry = \"safe\"\nfallback = \"inline\"");
    route("prefer", "when = \"prefer\"\nauth = \"none\"\ndeadline = \"30s\"\nconcurrency = 1");
    route("slow", &format!("when = \"slow\"\nafter = \"{after}ms\"\nauth = {caller}"));
    Arc::new(Rules::from_toml(&text).unwrap_or_else(|faults| panic!("{faults:?}\n{text}")))
}

/// What came of a schedule.
pub(super) struct Report {
    pub violation: Option<String>,
    pub hash: u64,
    pub events: Vec<log::Event>,
    pub calls: u64,
}

/// Where a process runs, one after another.
pub(super) struct Stage {
    pub world: Arc<World>,
    pub grace: Duration,
    rules: Arc<Rules>,
    variant: Variant,
    seats: Vec<Mutex<Arc<Process>>>,
}

impl Stage {
    fn new(world: Arc<World>, rules: Arc<Rules>, variant: Variant) -> Self {
        let (producers, consumers, grace) =
            world.draw(|rng| (rng.between(1, 2), rng.between(1, 3), rng.below(30_000)));
        let grace = Duration::from_millis(grace);
        let start = |seat| {
            let is_producer = seat < producers;
            Mutex::new(Process::start(&world, &rules, is_producer, variant, grace))
        };
        let seats = (0..producers + consumers).map(start).collect();
        Self { world, grace, rules, variant, seats }
    }

    pub(super) fn seats_len(&self) -> u64 {
        self.seats.len() as u64
    }

    pub(super) fn at(&self, seat: usize) -> Arc<Process> {
        Arc::clone(&self.seats[seat].lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn restart(&self, seat: usize) {
        let is_producer = self.at(seat).is_producer;
        let (world, rules) = (&self.world, &self.rules);
        let new = Process::start(world, rules, is_producer, self.variant, self.grace);
        *self.seats[seat].lock().unwrap_or_else(PoisonError::into_inner) = new;
    }

    /// One that takes requests, as soon as there is one.
    pub(super) async fn producer(&self) -> Arc<Process> {
        loop {
            let running: Vec<_> = (0..self.seats.len())
                .map(|seat| self.at(seat))
                .filter(|process| process.takes_requests())
                .collect();
            if !running.is_empty() {
                let at = self.world.draw(|rng| rng.below(running.len() as u64));
                return Arc::clone(&running[usize::try_from(at).unwrap_or(0)]);
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    fn is_at_rest(&self) -> bool {
        let is_idle = |process: Arc<Process>| process.worker.context.metrics.is_idle();
        let state = self.world.state();
        let is_empty = state.mailbox.is_empty();
        let runs =
            state.executions.iter().any(|of| of.is_open && state.processes[of.process].is_alive);
        let all_ended = state.promises.iter().all(|of| state.jobs[of.job].outcome.is_some());
        drop(state);
        is_empty && !runs && all_ended && (0..self.seats.len()).all(|seat| is_idle(self.at(seat)))
    }
}

/// Runs one schedule.
pub(super) fn run(seed: u64, variant: Variant) -> Report {
    let mut rng = Rng::new(seed);
    seed_system(Some(rng.next()));
    let set = rng.pick(&[0, 1, 2]);
    let rules = Arc::clone(&RULES[set]);
    let buried_after = receives(rules.document.queues.values().next());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let report = runtime.block_on(async {
        let world = Arc::new(World::new(rng, buried_after));
        play(Arc::clone(&world), rules, variant).await;
        let mut state = world.state();
        let events = std::mem::take(&mut state.log);
        Report {
            violation: state.violation.clone(),
            hash: log::hash(&events),
            events,
            calls: state.calls,
        }
    });
    drop(runtime);
    seed_system(None);
    report
}

fn is_violated(world: &World) -> bool {
    world.state().violation.is_some()
}

async fn play(world: Arc<World>, rules: Arc<Rules>, variant: Variant) {
    let stage = Arc::new(Stage::new(Arc::clone(&world), rules, variant));
    let active = world.draw(|rng| rng.between(5_000, 90_000));
    let mut clients = JoinSet::new();
    let requests = world.draw(|rng| rng.pick(&[1, 1, 2, 2, 3, 5]));
    for request in 0..requests {
        let plan = world.draw(|rng| Plan::drawn(rng, request, active));
        if plan.key.is_some() && world.draw(|rng| rng.chance(300)) {
            let twin = world.draw(|rng| plan.twin(rng));
            clients.spawn(client::run(Arc::clone(&stage), twin));
        }
        clients.spawn(client::run(Arc::clone(&stage), plan));
    }
    tokio::join!(biased; chaos::run(Arc::clone(&stage), active), operator::run(&stage, active));
    let now = world.now();
    world.state().calm(now);
    while clients.join_next().await.is_some() && !is_violated(&world) {}
    operator::finish(&stage).await;
    while !stage.is_at_rest() && !is_violated(&world) {
        if world.now() > now + SETTLED_MS {
            world.state().violated(|| "at rest: something goes on for ever".to_owned());
        }
        tokio::time::sleep(SETTLE_POLL).await;
    }
    let mut open: Vec<usize> = world.state().promises.iter().map(|of| of.job).collect();
    for _ in 0..LOOKS {
        let mut left = Vec::new();
        for job in open {
            if !is_violated(&world) && client::look(&stage, job, None).await != Some(true) {
                left.push(job);
            }
        }
        open = left;
        if open.is_empty() || is_violated(&world) {
            break;
        }
        tokio::time::sleep(LOOK_POLL).await;
    }
    check::finally(&mut world.state());
}
