//! Faults of the role: what it may not do on one of the sides.

use super::pair::{Pair, Servers, named};
use support::{Database, PASSWORD, eventually};

/// The first major in which a role that is no superuser may subscribe, and the right to SET ROLE is one of its own.
const SUBSCRIBE_SINCE: i32 = 16;

/// What a role needs that is no superuser: the fault without it, and the statement that gives it.
fn rights(role: &str, database: &str, major: i32) -> Vec<(&'static str, String)> {
    let mut found = vec![
        ("no-replication-attribute", format!("ALTER ROLE {role} REPLICATION")),
        ("no-create", format!("GRANT CREATE ON DATABASE {database} TO {role}")),
        ("no-replica-role", format!("GRANT SET ON PARAMETER session_replication_role TO {role}")),
        ("sessions-hidden", format!("GRANT pg_read_all_stats TO {role}")),
    ];
    if major >= SUBSCRIBE_SINCE {
        found.push(("no-subscribe", format!("GRANT pg_create_subscription TO {role}")));
    }
    found
}

/// A role of its own for a test, with what is not left out.
async fn make(database: &Database, role: &str, but: &str) {
    let quoted = PASSWORD.replace('\'', "''");
    let own = format!(
        "CREATE ROLE {role} LOGIN PASSWORD '{quoted}';
         GRANT USAGE ON SCHEMA shop TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA shop TO {role};
         GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA shop TO {role}"
    );
    database.sql(&own).await;
    for (name, grant) in rights(role, &database.name, major(database).await) {
        if name != but {
            database.sql(&grant).await;
        }
    }
    let own = format!(
        "ALTER TABLE shop.market OWNER TO {role}; ALTER TABLE shop.orders OWNER TO {role};
         ALTER TYPE shop.state OWNER TO {role}"
    );
    database.sql(&own).await;
}

async fn major(database: &Database) -> i32 {
    let client = database.client().await;
    let row = client.query_one("SELECT current_setting('server_version_num')::int", &[]).await;
    row.expect("a version").get::<_, i32>(0) / 10_000
}

/// What a role with all of these rights still lacks: PostgreSQL 15 lets only a superuser subscribe.
async fn always(pair: &Pair) -> &'static str {
    if major(&pair.source).await < SUBSCRIBE_SINCE {
        "b: no-superuser, d: no-superuser"
    } else {
        ""
    }
}

#[tokio::test]
async fn a_right_that_the_source_does_not_give_is_its_fault() {
    let servers = Servers::start(&[], &[]).await;
    let template = servers.pair().await;
    let all = rights("r", "d", major(&template.source).await);
    let names = all.iter().map(|(name, _)| *name).chain([""]);
    for (number, but) in names.enumerate() {
        let mut pair = servers.pair().await;
        let role = format!("mover_{number}");
        make(&pair.source, &role, but).await;
        make(&pair.target, &role, "").await;
        pair.asking_as(&role);
        let mut expected = named(always(&pair).await);
        if !but.is_empty() {
            expected.insert(format!("b: {but}"));
        }
        assert_eq!(pair.found().await, expected, "{but}");
    }
}

#[tokio::test]
async fn a_table_that_is_not_ours_is_a_fault() {
    let servers = Servers::start(&[], &[]).await;
    for (number, (sql, fault)) in [
        ("ALTER TABLE shop.orders OWNER TO postgres; GRANT SELECT ON shop.orders TO ROLE", "d: not-owner"),
        (
            "ALTER TABLE shop.orders OWNER TO postgres; REVOKE ALL ON shop.orders FROM ROLE",
            "d: not-owner, d: not-readable",
        ),
        ("ALTER TABLE shop.orders ENABLE ROW LEVEL SECURITY", "d: row-security"),
        ("REVOKE ALL ON SEQUENCE shop.market_id_seq FROM ROLE; ALTER TABLE shop.market OWNER TO postgres; GRANT SELECT ON shop.market TO ROLE", "d: sequence-not-settable, d: not-owner"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut pair = servers.pair().await;
        let role = format!("mover_{number}");
        make(&pair.source, &role, "").await;
        make(&pair.target, &role, "").await;
        pair.asking_as(&role);
        pair.target.sql(&sql.replace("ROLE", &role)).await;
        let mut expected = named(always(&pair).await);
        expected.extend(named(fault));
        assert_eq!(pair.found().await, expected, "{sql}");
    }
}

#[tokio::test]
async fn who_subscribes_needs_a_password_and_the_owners_of_the_tables_from_16_on() {
    let servers = Servers::start(&[], &[]).await;
    let mut pair = servers.pair().await;
    if major(&pair.source).await < SUBSCRIBE_SINCE {
        // Only a superuser subscribes there, who needs neither.
        return;
    }
    make(&pair.source, "mover", "").await;
    make(&pair.target, "mover", "").await;
    pair.asking_as("mover");
    let owner = "CREATE ROLE app; ALTER TABLE shop.orders OWNER TO app; ALTER TABLE shop.market OWNER TO app;
        GRANT app TO mover WITH INHERIT TRUE, SET FALSE";
    pair.target.sql(owner).await;
    assert_eq!(pair.found().await, named("d: owner-out-of-reach"));
    pair.target.sql("GRANT app TO mover WITH SET TRUE").await;
    assert_eq!(pair.found().await, named(""));
    let trust = "host all all 127.0.0.1/32 trust";
    servers.source.put("pg_hba.conf", trust);
    pair.source.sql("SELECT pg_reload_conf()").await;
    eventually("the source asks for no password", || async {
        (pair.found().await == named("d: no-password")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_fault_of_a_role_repeats_its_password() {
    let servers = Servers::start(&[], &[]).await;
    let mut pair = servers.pair().await;
    make(&pair.source, "mover", "no-replication-attribute").await;
    make(&pair.target, "mover", "no-create").await;
    pair.asking_as("mover");
    let faults = pair.faults().await;
    assert!(faults.len() >= 2, "{faults:?}");
    assert!(!format!("{faults:?}").contains(PASSWORD));
}
