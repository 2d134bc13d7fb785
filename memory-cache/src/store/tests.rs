use super::*;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http1::block::Block;
use rules::cache::{Entry, Windows};
use rules::sidecar::{SidecarAction, decide};
use rules::{Millis, UnixMillis};
use rules::{NoFields, Rules};

const RULES: &str = r#"
    [[route]]
    name  = "all"
    match = { path = "/{*rest}" }
    cache = { sidecar = "1s" }
"#;

struct World {
    store: Store,
    rules: Rules,
}

fn world(budget: usize) -> World {
    let store = Store::new(budget);
    World { store, rules: Rules::from_toml(RULES).expect("good rules") }
}

fn head(target: &str) -> Head<'_> {
    Head { method: "GET", scheme: "http", host: "h", target, fields: &NoFields }
}

impl World {
    fn plan(&self, target: &str) -> Box<Plan<'_>> {
        let SidecarAction::Proceed(proceed) = decide(&self.rules, &head(target)).action else {
            panic!("{target} is refused")
        };
        proceed.cache.expect("cacheable")
    }

    fn insert(
        &self,
        target: &str,
        body: usize,
        tags: &[&str],
        since: Mark,
    ) -> Result<(), NotStored> {
        let windows = Windows {
            fresh: Millis(1000),
            stale_while_revalidate: Millis(500),
            stale_if_error: Millis(0),
            disconnected: Millis(0),
            max_staleness: None,
        };
        let entry = Entry {
            received: UnixMillis(0),
            age_at_receipt: Millis(0),
            windows,
            etag: None,
            last_modified: None,
            vary: Vec::new(),
            is_shared: false,
            language: None,
        };
        let plan = self.plan(target);
        let stored = Stored::new(
            200,
            (Block::new(StatusCode::OK, &HeaderMap::new()), None),
            Bytes::from(vec![b'x'; body]),
            entry,
            self.store.url(&plan.url),
            tags.iter().map(|tag| (*tag).into()).collect(),
        );
        self.store.insert(&plan.key, Arc::new(stored), since)
    }

    fn keep(&self, target: &str, tags: &[&str]) {
        self.insert(target, 10, tags, self.store.mark()).expect("room");
    }

    fn find(&self, target: &str) -> Option<Arc<Stored>> {
        match self.store.look_up(&self.plan(target), &head(target)) {
            Found::Answer(stored) => Some(stored),
            Found::Miss(_) => None,
        }
    }

    fn url(&self, target: &str) -> Target {
        Target::Url(self.store.url(&self.plan(target).url))
    }

    fn bytes(&self) -> i64 {
        self.store.counts().bytes()
    }
}

const MIB: usize = 1024 * 1024;

#[test]
fn the_budget_holds_whatever_is_stored() {
    let world = world(4 * MIB);
    for number in 0..2000 {
        world.insert(&format!("/{number}"), 10_000, &[], world.store.mark()).expect("room");
    }
    let bytes = usize::try_from(world.bytes()).expect("not negative");
    assert!(bytes <= 4 * MIB && bytes > 2 * MIB, "{bytes}");
    assert!(world.find("/1999").is_some());
    assert!(world.find("/0").is_none());
}

#[test]
fn a_purge_beats_a_fill_of_the_same_url_that_began_before() {
    let world = world(4 * MIB);
    let before = world.store.mark();
    world.store.purge(&world.url("/a"), Purge::Hard);
    assert_eq!(world.insert("/a", 1, &[], before), Err(NotStored::Superseded));
    assert_eq!(world.insert("/b", 1, &[], before), Ok(()), "another's fill does not suffer");
    assert_eq!(world.insert("/a", 1, &[], world.store.mark()), Ok(()));
}

#[test]
fn a_purge_by_tag_takes_every_answer_that_has_it_and_fills_in_flight() {
    let world = world(4 * MIB);
    world.keep("/a", &["stock", "news"]);
    world.keep("/b", &["stock"]);
    world.keep("/c", &["news"]);
    let before = world.store.mark();
    assert_eq!(world.store.purge(&Target::Tag("stock".into()), Purge::Hard), 2);
    assert!(world.find("/a").is_none() && world.find("/b").is_none());
    assert!(world.find("/c").is_some());
    assert_eq!(world.insert("/d", 1, &["stock"], before), Err(NotStored::Superseded));
}

#[test]
fn a_soft_purge_makes_stale_and_keeps_the_stale_windows() {
    let world = world(4 * MIB);
    world.keep("/a", &[]);
    assert_eq!(world.store.purge(&world.url("/a"), Purge::Soft { now: UnixMillis(300) }), 1);
    let stored = world.find("/a").expect("kept");
    let at = |now: u64| stored.entry.look_up(UnixMillis(now));
    assert!(matches!(at(301), rules::cache::Lookup::StaleWhileRevalidate { .. }));
    assert!(matches!(at(801), rules::cache::Lookup::Expired { .. }));
}

#[test]
fn of_two_keys_with_one_hash_the_later_is_kept() {
    let world = world(4 * MIB);
    world.keep("/a", &[]);
    let stored = world.find("/a").expect("kept");
    let mut shard = Shard::new(MIB);
    shard.put("one", 7, Arc::clone(&stored));
    shard.put("other", 7, stored);
    let kept = shard.entries.peek(7).expect("kept");
    assert_eq!((&*kept.key, kept.variants.len()), ("other", 1));
    assert_eq!((shard.entries.count(), shard.keys.len()), (1, 1));
}

#[test]
fn memory_is_given_back_when_everything_is_purged() {
    let world = world(4 * MIB);
    (0..100).for_each(|number| world.keep(&format!("/{number}"), &[]));
    assert_eq!(world.store.purge(&Target::All, Purge::Hard), 100);
    assert_eq!(world.bytes(), 0);
    assert!(world.store.shards.iter().all(|shard| lock(shard).keys.is_empty()));
}

#[test]
fn a_fill_that_missed_more_purges_than_are_remembered_is_not_stored() {
    let world = world(4 * MIB);
    let before = world.store.mark();
    for number in 0..2000 {
        world.store.purge(&world.url(&format!("/{number}")), Purge::Hard);
    }
    assert_eq!(world.insert("/a", 1, &[], before), Err(NotStored::Superseded));
}
