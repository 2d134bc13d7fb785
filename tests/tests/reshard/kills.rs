//! A tool that is killed, at each of its steps and anywhere: whoever goes on ends the move, and nothing is lost.

use crate::clients::{Strays, Writers};
use crate::world::{JOURNAL, World};
use std::time::Duration;
use support::Database;

const STEPS: [&str; 6] = ["gated", "copying", "copied", "indexed", "following", "verified"];
/// Kills at any time, unless `SPILLWAY_RESHARD_KILLS` says how many.
const KILLS: usize = 15;
/// By so much longer the next try of a command may run before it is killed.
const LONGER: Duration = Duration::from_millis(150);

#[tokio::test]
async fn a_run_that_is_killed_after_each_step_is_gone_on_with() {
    let world = World::start().await;
    let shape = world.shape(&world.target).await;
    let writers = Writers::begin(&world.source);
    for step in STEPS {
        assert!(world.kill_at(step).await, "it did not come to {step}");
    }
    world.run().await;
    assert!(writers.end().await > 100);
    world.succeeds(&["verify", "--source", "b"]).await;
    world.assert_same().await;
    let mut with_gate = world.shape(&world.target).await;
    with_gate.retain(|line| !line.contains("zz_spillway"));
    assert_eq!(with_gate, shape);
}

#[tokio::test]
async fn a_move_can_be_undone_wherever_its_run_was_killed() {
    let world = World::start().await;
    let shape = world.shape(&world.target).await;
    for step in STEPS {
        assert!(world.kill_at(step).await, "it did not come to {step}");
        world.succeeds(&["abort", "--yes", "--take-over", "--source", "b"]).await;
        assert_eq!(world.leftovers(&world.target).await, Vec::<String>::new(), "{step}");
        assert_eq!(world.shape(&world.target).await, shape, "{step}");
        assert_eq!(world.rows(&world.target).await, Vec::<String>::new(), "{step}");
        assert_eq!(world.leftovers(&world.source).await.len(), 3, "{step}");
    }
}

#[tokio::test]
async fn a_comparison_goes_on_where_a_killed_run_was() {
    let world = World::start().await;
    world.run().await;
    // As a run leaves it that is killed after the first of two tables.
    let killed =
        r#"UPDATE spillway.move SET step = 'following', compared = compared - '"public"."orders"'"#;
    world.source.sql(killed).await;
    let said = world.run().await;
    assert!(said.contains("public.prices: 0 rows compared in 0 chunks, 1 chunks were"), "{said}");
    assert!(said.contains("public.orders: 500 rows compared in 1 chunks\n"), "{said}");
    // A copy that begins again is compared as a whole; so is everything before the end.
    let lost = "UPDATE spillway.move SET step = 'copying', compared = '{}'";
    world.source.sql(lost).await;
    let said = world.switch().await;
    assert!(said.contains("public.prices: 2500 rows compared in 1 chunks\n"), "{said}");
    let said = world.succeeds(&["finish", "--yes", "--source", "b"]).await;
    assert!(said.contains("public.prices: 2500 rows compared in 1 chunks\n"), "{said}");
}

/// How a move of a campaign ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Finish,
    Abort,
    Rollback,
}

/// Moves there and back whose tool is killed at times that nobody has chosen.
struct Campaign {
    world: World,
    /// Who has the range, and who takes it next.
    owner: &'static str,
    other: &'static str,
    chance: u64,
    kills: usize,
    /// Keys and indexes of both.
    shape: Vec<String>,
}

impl Campaign {
    async fn start() -> Self {
        let world = World::start().await;
        let chance = std::env::var("SPILLWAY_RESHARD_SEED").ok().and_then(|own| own.parse().ok());
        let chance = chance.unwrap_or_else(|| u64::from(std::process::id()));
        eprintln!("SPILLWAY_RESHARD_SEED={chance}");
        let shape = world.shape(&world.target).await;
        Self { world, owner: "b", other: "d", chance, kills: 0, shape }
    }

    fn database(&self, shard: &str) -> &Database {
        if shard == "b" { &self.world.source } else { &self.world.target }
    }

    /// A number below this one: Knuth's generator, whose upper half is good enough.
    fn below(&mut self, end: u64) -> u64 {
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.chance >> 33) % end
    }

    /// Starts a command and kills it after a time; whether it had done its work by then.
    async fn is_done(&mut self, arguments: &[&str], longest: Duration) -> bool {
        let within = self.below(u64::try_from(longest.as_millis()).expect("some seconds"));
        let run = self.world.starts(arguments);
        // Dropping it kills it.
        let Ok(ended) = tokio::time::timeout(Duration::from_millis(within), run.end()).await else {
            self.kills += 1;
            return false;
        };
        // The one before may have been killed after its last step; and a busy machine may undo a switch.
        let (is_over, is_slow) = ("no-such-move", "pause-too-long");
        let said = format!("{arguments:?}: {}{}", ended.output, ended.errors);
        let is_known = [is_over, is_slow].iter().any(|name| ended.errors.contains(name));
        assert!(ended.code == Some(0) || is_known, "{said}");
        !ended.errors.contains(is_slow)
    }

    /// Says a command again until it is done, or has been killed so often.
    async fn killed(&mut self, arguments: &[&str], limit: usize) {
        let (before, mut longest) = (self.kills, LONGER);
        while self.kills - before < limit && !self.is_done(arguments, longest).await {
            longest += LONGER;
        }
    }

    /// One move whose range comes to the other database, or not.
    async fn round(&mut self, end: End) {
        let (owner, other) = (self.owner, self.other);
        let beside = [self.beside(owner).await, self.beside(other).await];
        let strays = Strays::begin(&self.world);
        let run = ["run", "--yes", "--json", "--take-over", "--accept", "members-unknown"];
        let tables = "prices:instrument_id,orders:instrument_id";
        let what = ["--measure", "1", "--map", "market", "--range", "100..200", "--to", other];
        let run = [&run[..], &what, &["--tables", tables]].concat();
        if end == End::Abort {
            let limit = 1 + usize::try_from(self.below(8)).expect("a small number");
            self.killed(&[&run[..], &["--no-switch"]].concat(), limit).await;
        } else {
            self.killed(&run, usize::MAX).await;
            self.follows(owner, other).await;
        }
        let command = format!("{end:?}").to_lowercase();
        let ends = [command.as_str(), "--yes", "--json", "--take-over", "--source", owner];
        self.killed(&ends, usize::MAX).await;
        if end == End::Finish {
            (self.owner, self.other) = (other, owner);
        }
        let kept = strays.end_at(self.database(self.owner)).await;
        eprintln!("{owner} to {other}, {end:?}: {kept} writes, {} kills so far", self.kills);
        assert_eq!(self.world.owner().await, self.owner);
        assert_eq!([self.beside(owner).await, self.beside(other).await], beside);
        self.is_clean().await;
    }

    /// The new owner has the rows, and nothing but what keeps the way back open is left of the move.
    async fn follows(&self, old: &str, new: &str) {
        self.world.succeeds(&["verify", "--source", old]).await;
        for (shard, wanted) in [
            (old, ["subscription spillway_back"].as_slice()),
            (new, &["publication spillway_back", "slot spillway_back"]),
        ] {
            let replicas = ["publication ", "subscription ", "slot "];
            let mut found = self.world.leftovers(self.database(shard)).await;
            found.retain(|own| replicas.iter().any(|kind| own.starts_with(kind)));
            let named: Vec<_> = found
                .iter()
                .map(|own| own.trim_end_matches(|c: char| c == '_' || c.is_ascii_digit()))
                .collect();
            assert_eq!(named, wanted, "{shard}");
        }
    }

    /// Nothing is left of any move but its row in the journal of its source.
    async fn is_clean(&self) {
        for shard in ["b", "d"] {
            let database = self.database(shard);
            let left = self.world.leftovers(database).await;
            assert!(left.is_empty() || left == JOURNAL, "{shard}: {left:?}");
            let mut shape = self.world.shape(database).await;
            shape.retain(|line| !line.contains("spillway_owns_market"));
            assert_eq!(shape, self.shape, "{shard}");
        }
        let rows = self.world.rows(self.database(self.other)).await;
        assert_eq!(rows, Vec::<String>::new(), "rows are left at {}", self.other);
    }

    /// A hash of all rows outside the range.
    async fn beside(&self, shard: &str) -> String {
        let sql = "SELECT md5(coalesce(string_agg(t::text, ' ' ORDER BY t::text), '')) FROM
            (SELECT p::text t FROM prices p WHERE instrument_id NOT BETWEEN 100 AND 199
             UNION ALL SELECT o::text FROM orders o WHERE instrument_id NOT BETWEEN 100 AND 199) t";
        self.database(shard).client().await.query_one(sql, &[]).await.expect("a row").get(0)
    }
}

#[tokio::test]
async fn a_tool_that_is_killed_at_any_time_loses_nothing_and_leaves_nothing() {
    let kills = std::env::var("SPILLWAY_RESHARD_KILLS").ok().and_then(|own| own.parse().ok());
    let kills: usize = kills.unwrap_or(KILLS);
    let mut campaign = Campaign::start().await;
    for end in [End::Finish, End::Abort, End::Rollback].into_iter().cycle() {
        campaign.round(end).await;
        if campaign.kills >= kills {
            break;
        }
        // From now on the other database has rows of its own, of a key that nobody owns.
        let row = "INSERT INTO prices (instrument_id, price) VALUES (5000, 1)";
        campaign.database(campaign.other).sql(row).await;
    }
}
