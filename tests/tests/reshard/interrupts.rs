//! A tool that somebody ends with Ctrl-C, or Kubernetes with SIGTERM: no write of the range waits for it afterwards.

use crate::clients::Strays;
use crate::world::{JOURNAL, MOVED, World};

#[tokio::test]
async fn a_run_that_is_interrupted_anywhere_is_gone_on_with() {
    let world = World::start().await;
    let strays = Strays::begin(&world);
    let steps = ["gated", "copying", "copied", "indexed", "following", "verified", "prepared"];
    for (step, signal) in steps.into_iter().zip(["INT", "TERM"].into_iter().cycle()) {
        // So slow that it is not over before the signal comes.
        let mut run = world.runs(if step == "copying" { &["--rate", "50KiB"] } else { &[] });
        assert!(run.says(&format!(r#""step":"{step}""#)).await, "it did not come to {step}");
        run.signal(signal);
        let ended = run.end().await;
        assert_eq!(ended.code, Some(130), "{step}: {}{}", ended.output, ended.errors);
        assert!(ended.errors.contains("interrupted: the move can be gone on with"), "{step}");
    }
    world.switch().await;
    assert_eq!(world.owner().await, "d");
    world.succeeds(&["finish", "--yes", "--source", "b"]).await;
    strays.end_at(&world.target).await;
    assert_eq!(world.leftovers(&world.source).await, JOURNAL);
    assert_eq!(world.leftovers(&world.target).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_run_that_is_interrupted_while_it_waits_for_jobs_takes_its_announce_back() {
    let mut world = World::start().await;
    world.run().await;
    let strays = Strays::begin(&world);
    world.hold("announce");
    let run = world.runs(&[]);
    world.is_held().await;
    run.signal("INT");
    let ended = run.end().await;
    assert_eq!(ended.code, Some(130), "{}", ended.errors);
    world.let_go();
    assert_eq!(world.owner().await, "b");
    world.abort().await;
    strays.end_at(&world.source).await;
    assert_eq!(world.leftovers(&world.target).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_switch_in_which_writes_wait_is_ended_before_the_tool_is() {
    for command in ["fence", "no-return", "commit"] {
        let mut world = World::start().await;
        world.run().await;
        let strays = Strays::begin(&world);
        world.hold(command);
        let run = world.runs(&[]);
        world.is_held().await;
        run.signal("INT");
        world.let_go();
        let ended = run.end().await;
        assert_eq!(ended.code, Some(0), "{command}: {}", ended.errors);
        assert_eq!(world.owner().await, "d", "{command}");
        world.succeeds(&["rollback", "--yes", "--source", "b"]).await;
        strays.end_at(&world.source).await;
    }
}

#[tokio::test]
async fn a_second_signal_ends_the_tool_at_once() {
    let mut world = World::start().await;
    world.run().await;
    world.hold("commit");
    let mut run = world.runs(&[]);
    world.is_held().await;
    run.signal("INT");
    assert!(run.complains("a second signal ends it at once").await);
    run.signal("INT");
    assert_eq!(run.end().await.code, Some(130));
    world.let_go();
    world.switch().await;
    assert_eq!(world.owner().await, "d");
}

#[tokio::test]
async fn an_undo_that_is_interrupted_is_ended_by_the_next_one() {
    let world = World::start().await;
    world.run().await;
    let mut abort = world.starts(&["abort", "--yes", "--json", "--source", "b"]);
    assert!(abort.says(r#""step":"aborting""#).await);
    abort.signal("INT");
    let ended = abort.end().await;
    assert_eq!(ended.code, Some(130), "{}", ended.errors);
    let refused = world.reshard(&[&["run", "--yes"], &MOVED[..]].concat()).await;
    assert!(refused.errors.contains("wrong-step: the move is aborting"), "{}", refused.errors);
    world.abort().await;
    assert_eq!(world.leftovers(&world.target).await, Vec::<String>::new());
    assert_eq!(world.leftovers(&world.source).await, JOURNAL);
}
