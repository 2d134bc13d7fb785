//! Everything that can happen while a range of a live map moves: two pods, two writes, coordinators that may end
//! anywhere, pods that crash, start and are cut off, owners with a gate and without. Every state is looked at;
//! what pods and coordinators decide, they decide by the functions of `rules::shard`.
//!
//! Whoever overtakes a coordinator ends its session at the owners (`reshard`), but not a put that is on its way.
//!
//! What is not here: time (nothing depends on it but how long somebody waits), reads, jobs, several moves of one
//! map, a store that lies.
#![expect(
    clippy::print_stdout,
    reason = "how many states there are, and the way to one that breaks"
)]

mod book;
mod breadth_first;
mod broken;
mod coordinators;
mod invariants;
mod model;
mod pods;
mod protocol;
mod words;
mod world;
mod writes;

use book::{SOURCE, TARGET};
use breadth_first::{Found, search};
use model::Model;
use protocol::Stage::{
    Close, Commit, CopyRest, Drain, Fence, MarkMoved, Members, OpenTarget, PassReturn,
};
use protocol::{Broken, Protocol};
use world::{World, Write};

/// The whole of a search in which nothing may be broken.
fn holds(name: &str, protocol: Protocol) -> (Model, Found) {
    let model = Model::new(protocol);
    let found = search(&model);
    let states = found.worlds.len();
    if let Some(broken) = &found.broken {
        panic!("{name}: after {states} states\n{}", model.words(broken));
    }
    println!("{name}: {states} states, nothing broken");
    (model, found)
}

fn is_acknowledged(world: &World, by: usize) -> bool {
    let own = |write: &Write| matches!(write, Write::Acknowledged { owner, .. } if *owner == by);
    world.writes.iter().any(own)
}

/// A search in which nothing ever happens would find nothing broken, too.
fn assert_alive((model, found): &(Model, Found)) {
    let happens = |what: &dyn Fn(&World) -> bool| found.worlds.iter().any(what);
    let is_settled = |world: &World| model.is_settled(world);
    assert!(
        happens(&|world| is_settled(world)
            && model.book.is_committed(world.store)
            && is_acknowledged(world, SOURCE)
            && is_acknowledged(world, TARGET)),
        "no move ends after a write to either owner"
    );
    assert!(
        happens(&|world| is_settled(world)
            && model.book.is_aborted(world.store)
            && is_acknowledged(world, SOURCE)),
        "no abort ends after a write"
    );
    let is_held = |write: &Write| matches!(write, Write::Held(_));
    assert!(happens(&|world| world.writes.iter().all(is_held)), "no writes wait");
}

/// With a gate, nobody's ack is waited for here: the time for it may be over at once.
#[test]
fn with_a_gate_nothing_breaks_and_a_missing_ack_is_safe() {
    let searched = holds("with a gate", Protocol::with_gate());
    assert_alive(&searched);
    let (model, found) = searched;
    let is_served_as_sent = |world: &World| {
        world.writes.iter().any(|write| match write {
            Write::Sent(way, version) if way.marker.is_some() => {
                let own = world.pods[way.at()].follows();
                own.is_some_and(|own| model.book.epoch(own) < model.book.epoch(*version))
            }
            _ => false,
        })
    };
    assert!(found.worlds.iter().any(is_served_as_sent), "no pod trusts a newer marker");
}

#[test]
fn with_a_gate_nothing_breaks_where_one_application_reaches_both_owners() {
    assert_alive(&holds("with a gate, annotated", Protocol::with_gate().annotated()));
}

#[test]
fn the_point_of_no_return_may_come_before_the_rest_is_copied() {
    let order =
        &[Fence, Members, Close, PassReturn, Drain, CopyRest, MarkMoved, OpenTarget, Commit];
    assert_alive(&holds(
        "no return before the copy",
        Protocol::with_gate().annotated().ordered(order),
    ));
}

#[test]
fn with_a_gate_a_newcomer_with_an_old_map_is_safe() {
    let protocol = Protocol::with_gate().broken(Broken::NewcomerFromSeed);
    holds("with a gate, newcomers from the seed", protocol);
}

/// Coordinators do not see whether writes are forwarded: without that, there are fewer states.
#[test]
fn with_a_gate_two_coordinators_are_safe() {
    let protocol = Protocol::with_gate().annotated().led_by_two().crashing([false, false]);
    assert_alive(&holds("with a gate, two coordinators, annotated", protocol));
}

#[test]
fn with_a_gate_two_coordinators_are_safe_while_a_pod_crashes() {
    let protocol = Protocol::with_gate().led_by_two().with_one_write();
    holds("with a gate, two coordinators, a crash, one write", protocol.crashing([true, false]));
}

#[test]
fn without_a_gate_nothing_breaks_if_every_member_is_heard() {
    assert_alive(&holds("without a gate", Protocol::without_gate()));
}

#[test]
fn without_a_gate_nothing_breaks_where_one_application_reaches_both_owners() {
    assert_alive(&holds("without a gate, annotated", Protocol::without_gate().annotated()));
}

#[test]
fn without_a_gate_two_coordinators_are_safe() {
    let name = "without a gate, two coordinators";
    assert_alive(&holds(name, Protocol::without_gate().led_by_two().crashing([false, false])));
}

#[test]
fn without_a_gate_two_coordinators_are_safe_while_a_pod_crashes() {
    for (pod, may_crash) in [("A", [true, false]), ("B", [false, true])] {
        let name = format!("without a gate, two coordinators, pod {pod} crashes, one write");
        let protocol = Protocol::without_gate().led_by_two().with_one_write();
        holds(&name, protocol.crashing(may_crash));
    }
}
