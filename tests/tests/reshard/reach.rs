//! How the databases reach each other: found out before rows are copied, which may take hours.

use crate::sessions::with_tls;
use crate::world::{MOVED, World};
use support::Postgres;

/// `reshard COMMAND` of the move, where the target reaches the source by this URL.
fn by<'a>(command: &[&'a str], way: &'a str) -> Vec<&'a str> {
    [command, &["--replicate-from", way], &MOVED[..]].concat()
}

#[tokio::test]
async fn a_target_that_does_not_reach_the_source_is_a_fault_of_the_preflight() {
    let world = World::start().await;
    let ended = world.reshard(&by(&["preflight"], "b=postgresql://postgres@127.0.0.1:1/m")).await;
    assert_eq!(ended.code, Some(1));
    for part in ["not-reached: it can't subscribe to `b`: ", "--replicate-from b=postgresql://"] {
        assert!(ended.output.contains(part), "{part}: {}", ended.output);
    }
    assert_eq!(world.leftovers(&world.target).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_address_that_leads_the_target_to_another_database_ends_the_move_before_its_copy() {
    let world = World::start().await;
    // As `localhost` does, by which the tool reaches the source through a forwarded port.
    let itself = format!("b={}", world.target.url("postgres"));
    let ended = world.reshard(&by(&["run", "--yes", "--json"], &itself)).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.errors.contains("leads to another one"), "{}", ended.errors);
    assert!(ended.output.contains(r#""step":"copying""#), "{}", ended.output);
    assert!(!ended.output.contains(r#""event":"copied""#), "{}", ended.output);
    // The right address goes on with the same move.
    world.run().await;
    world.assert_same().await;
}

#[tokio::test]
async fn a_way_back_that_leads_to_another_database_is_not_prepared() {
    let world = World::start().await;
    let itself = format!("d={}", world.source.url("postgres"));
    let ended = world.reshard(&by(&["run", "--yes"], &itself)).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.errors.contains("leads to another one"), "{}", ended.errors);
    assert_eq!(world.owner().await, "b");
    world.switch().await;
    assert_eq!(world.owner().await, "d");
}

#[tokio::test]
async fn a_subscription_verifies_the_server_by_a_file_on_its_own_machine() {
    let (source, _files, file) = with_tls("host all all 127.0.0.1/32 trust").await;
    let target = Postgres::shared(1);
    target.put("b.pem", &std::fs::read_to_string(file).expect("a certificate"));
    let file = target.data().join("b.pem").display().to_string();
    let world = World::between(&source, target).await;
    let url = world.source.url("postgres");
    let without = format!("b={url}?sslmode=verify-full");
    let ended = world.reshard(&by(&["preflight"], &without)).await;
    assert!(ended.output.contains("not-reached: "), "{}", ended.output);
    assert!(ended.output.contains("certificate"), "{}", ended.output);
    let verified = format!("b={url}?sslmode=verify-full&sslrootcert={file}");
    world.succeeds(&by(&["run", "--yes", "--no-switch"], &verified)).await;
    let sql = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_replication USING (pid)";
    let row = world.source.client().await.query_one(sql, &[]).await.expect("it follows");
    assert!(row.get::<_, bool>(0));
    world.assert_same().await;
}
