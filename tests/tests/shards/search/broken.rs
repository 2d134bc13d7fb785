//! Each part of the protocol is needed: without it the search finds what breaks, and says how.

use super::breadth_first::search;
use super::invariants::Invariant;
use super::model::Model;
use super::protocol::Stage::{
    Close, Commit, CopyRest, Drain, Fence, MarkMoved, Members, OpenTarget, PassReturn,
};
use super::protocol::{Broken, Protocol};

/// A broken protocol, which must be found to break this.
fn is_caught(name: &str, protocol: Protocol, expected: Invariant) {
    let model = Model::new(protocol);
    let found = search(&model);
    let states = found.worlds.len();
    let Some(broken) = &found.broken else {
        panic!("{name}: {states} states, and nothing is found broken");
    };
    let steps = broken.steps.len();
    println!("{name}: caught in {steps} steps, after {states} states\n{}", model.words(broken));
    assert_eq!(broken.invariant, expected, "{name}");
}

#[test]
fn no_drain_is_caught() {
    let order = &[Fence, Members, Close, CopyRest, PassReturn, MarkMoved, OpenTarget, Commit];
    let protocol = Protocol::with_gate().ordered(order);
    is_caught("no drain", protocol, Invariant::NewOwnerHasAll);
}

#[test]
fn the_marker_before_the_gate_is_caught() {
    let order =
        &[Fence, Members, CopyRest, Close, Drain, PassReturn, MarkMoved, OpenTarget, Commit];
    let protocol = Protocol::with_gate().ordered(order);
    is_caught("marker before the gate", protocol, Invariant::NewOwnerHasAll);
}

#[test]
fn the_target_opened_first_is_caught() {
    let order =
        &[Fence, Members, OpenTarget, Close, Drain, CopyRest, PassReturn, MarkMoved, Commit];
    let protocol = Protocol::with_gate().ordered(order);
    is_caught("target opened first", protocol, Invariant::OneOwnerOpen);
}

#[test]
fn the_map_before_the_target_is_open_is_caught() {
    let order =
        &[Fence, Members, Close, Drain, CopyRest, PassReturn, MarkMoved, Commit, OpenTarget];
    let protocol = Protocol::with_gate().ordered(order);
    is_caught("map before the target is open", protocol, Invariant::NoClosedGateAfterTheMove);
}

#[test]
fn an_abort_that_puts_the_old_object_back_is_caught() {
    let protocol = Protocol::with_gate().annotated().broken(Broken::AbortWithOldEpoch);
    is_caught("abort with the old epoch", protocol, Invariant::MoveCanEnd);
}

#[test]
fn an_abort_in_the_same_epoch_is_caught() {
    let protocol = Protocol::with_gate().broken(Broken::AbortInSameEpoch);
    is_caught("abort in the same epoch", protocol, Invariant::OneEpochOneMap);
}

#[test]
fn an_abort_after_no_return_is_caught() {
    let protocol = Protocol::with_gate().broken(Broken::AbortAfterNoReturn);
    is_caught("abort after no return", protocol, Invariant::OneOwnerOpen);
}

#[test]
fn a_lower_epoch_taken_is_caught() {
    let protocol = Protocol::with_gate().broken(Broken::LowerEpochTaken);
    is_caught("lower epoch taken", protocol, Invariant::EpochNeverFalls);
}

#[test]
fn two_coordinators_without_if_match_are_caught() {
    let with_gate = Protocol::with_gate().led_by_two().broken(Broken::NoIfMatch);
    is_caught("two coordinators without If-Match", with_gate, Invariant::OneEpochOneMap);
    let without = Protocol::without_gate().led_by_two().broken(Broken::NoIfMatch);
    is_caught("the same without a gate", without, Invariant::OneEpochOneMap);
}

#[test]
fn no_gate_and_a_pod_left_out_is_caught() {
    let protocol = Protocol::without_gate().broken(Broken::PodLeftOut);
    is_caught("no gate and a pod left out", protocol, Invariant::NewOwnerHasAll);
}

#[test]
fn no_gate_and_a_newcomer_from_the_seed_is_caught() {
    let protocol = Protocol::without_gate().broken(Broken::NewcomerFromSeed);
    is_caught("no gate and a newcomer from the seed", protocol, Invariant::NewOwnerHasAll);
}

#[test]
fn an_ack_with_writes_in_flight_and_no_gate_is_caught() {
    let protocol = Protocol::without_gate().broken(Broken::AckWithWritesInFlight);
    let name = "ack with writes in flight and no gate";
    is_caught(name, protocol, Invariant::NewOwnerHasAll);
}

#[test]
fn members_asked_once_and_no_gate_is_caught() {
    let protocol = Protocol::without_gate().broken(Broken::AskedOnce);
    is_caught("members asked once and no gate", protocol, Invariant::NewOwnerHasAll);
}

#[test]
fn a_look_at_the_map_before_the_entry_alone_is_caught() {
    let protocol = Protocol::without_gate().broken(Broken::LookedBeforeEntry);
    is_caught("looked before the entry", protocol, Invariant::NewOwnerHasAll);
}

#[test]
fn a_write_that_waits_at_the_receiver_is_caught() {
    let protocol = Protocol::without_gate().broken(Broken::HeldAtReceiver);
    is_caught("held at the receiver", protocol, Invariant::NoWaitingInFlight);
}

#[test]
fn a_write_entered_by_an_older_map_than_the_markers_is_caught() {
    let protocol = Protocol::with_gate().broken(Broken::EnteredByOlderMap);
    is_caught("entered by an older map", protocol, Invariant::NoRound);
}

#[test]
fn a_forwarded_write_that_is_sent_on_after_a_change_is_caught() {
    let protocol = Protocol::with_gate().broken(Broken::SentOnAfterChange);
    is_caught("sent on after a change", protocol, Invariant::NoLoop);
}
