//! Sessions with a server: as which role, with which settings, and what an error says.

use rcgen::{CertificateParams, KeyPair};
use reshard::server::{Address, Password, Session, Walsender};
use reshard::sql::Identifier;
use support::{Database, PASSWORD, Postgres, eventually, folder};
use tempfile::TempDir;

fn address(database: &Database, user: &str) -> Address {
    Address::read(&format!("b={}", database.url(user))).expect("an address")
}

/// A role of its own for a test, as roles belong to the server that tests share.
async fn role(database: &Database, options: &str) -> String {
    let role = format!("mover_{}", database.name);
    let client = database.client().await;
    let quoted = PASSWORD.replace('\'', "''");
    let sql = format!("CREATE ROLE {role} LOGIN {options} PASSWORD '{quoted}'");
    client.batch_execute(&sql).await.expect("a role");
    role
}

#[tokio::test]
async fn a_session_has_its_own_settings_whatever_the_database_has_set() {
    let database = Postgres::shared(0).database().await;
    let name = &database.name;
    database
        .sql(&format!(
            "ALTER DATABASE {name} SET synchronous_commit = off; ALTER DATABASE {name} SET search_path = shop;
             ALTER DATABASE {name} SET statement_timeout = '1ms'; ALTER DATABASE {name} SET datestyle = German;
             ALTER DATABASE {name} SET default_transaction_isolation = serializable"
        ))
        .await;
    let session = Session::open(&address(&database, "postgres"), None, "reshard move 7").await;
    let session = session.expect("a session");
    assert!(session.major() >= 15, "{}", session.version());
    for (setting, value) in [
        ("synchronous_commit", "on"),
        ("search_path", "pg_catalog"),
        ("row_security", "off"),
        ("statement_timeout", "0"),
        ("DateStyle", "ISO, MDY"),
        ("transaction_isolation", "read committed"),
        ("application_name", "reshard move 7"),
    ] {
        let row = session.row("ask", "SELECT current_setting($1)", &[&setting]).await;
        assert_eq!(row.expect(setting).get::<_, String>(0), value, "{setting}");
    }
}

#[tokio::test]
async fn a_walsender_with_a_password_exports_the_snapshot_of_its_slot() {
    let database = Postgres::shared(0).database().await;
    let role = role(&database, "REPLICATION").await;
    database.sql("CREATE TABLE public.t(k int PRIMARY KEY); INSERT INTO public.t VALUES (1)").await;
    let (address, password) = (address(&database, &role), Password::new(PASSWORD));
    let walsender = Walsender::open(&address, Some(&password), "reshard").await;
    let walsender = walsender.expect("a walsender");
    assert!(walsender.system_identifier().await.is_ok_and(|own| own.parse::<u64>().is_ok()));
    let slot = Identifier::new(format!("slot_{}", database.name)).expect("a name");
    let created = walsender.create_slot(&slot).await.expect("a slot");
    database.sql("INSERT INTO public.t VALUES (2)").await;
    let reader = database.client().await;
    let begin = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '{}'",
        created.snapshot
    );
    reader.batch_execute(&begin).await.expect("the snapshot is there");
    let row = reader.query_one("SELECT count(*) FROM public.t", &[]).await.expect("a count");
    assert_eq!(row.get::<_, i64>(0), 1, "rows after the slot's point are not in the snapshot");
    reader.batch_execute("COMMIT").await.expect("it only read");
    drop(walsender);
    let drop_it = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
        WHERE slot_name = $1::text AND NOT active";
    eventually("the slot is free", || async {
        let rows = reader.query(drop_it, &[&slot.as_str()]).await.expect("the server answers");
        rows.first().map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_refused_session_says_where_why_and_what_to_do_without_the_password() {
    let database = Postgres::shared(0).database().await;
    let role = role(&database, "").await;
    let password = Password::new("hunter2");
    let refused = Session::open(&address(&database, &role), Some(&password), "reshard").await;
    let text = refused.expect_err("a wrong password").to_string();
    for part in ["shard `b`", &role, "28P01", "RESHARD_PASSWORD_SHARD"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}

/// A server that speaks TLS and takes whom this line of `pg_hba.conf` names; and the file with its certificate.
pub async fn with_tls(who: &str) -> (Postgres, TempDir, String) {
    let server = Postgres::start(&[]);
    let (params, files) = (CertificateParams::new(["127.0.0.1".to_owned()]), folder());
    let key = KeyPair::generate().expect("a key");
    let certificate = params.expect("a name").self_signed(&key).expect("a certificate").pem();
    let file = files.path().join("server.pem");
    std::fs::write(&file, &certificate).expect("a file");
    server.put("server.crt", &certificate);
    server.put("server.key", &key.serialize_pem());
    let first = Database { port: server.port(), name: "postgres".to_owned() };
    first.sql("ALTER SYSTEM SET ssl = on").await;
    server.put("pg_hba.conf", who);
    first.sql("SELECT pg_reload_conf()").await;
    (server, files, file.display().to_string())
}

#[tokio::test]
async fn over_tls_a_session_and_a_walsender_reach_the_server_they_can_verify() {
    let (server, _files, file) = with_tls("hostssl all postgres 127.0.0.1/32 trust").await;
    let database = Database { port: server.port(), name: "postgres".to_owned() };
    let read = |query: String| {
        Address::read(&format!("b={}?{query}", database.url("postgres"))).expect("an address")
    };
    let verified = read(format!("sslmode=verify-full&sslrootcert={file}"));
    let session = eventually("the server has read its settings", || async {
        Session::open(&verified, None, "reshard").await.ok()
    })
    .await;
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert!(session.row("ask", sql, &[]).await.expect("an answer").get::<_, bool>(0));
    let walsender = Walsender::open(&verified, None, "reshard").await.expect("a walsender");
    assert!(walsender.system_identifier().await.is_ok());
    for (query, why) in [
        ("sslmode=verify-full", "certificate"),
        ("sslmode=disable", "pg_hba.conf"),
        ("sslmode=verify-full&sslrootcert=/nonexistent", "/nonexistent"),
    ] {
        let refused = Session::open(&read(query.to_owned()), None, "reshard").await;
        let said = refused.expect_err(query).to_string();
        assert!(said.contains(why), "{query}: {said}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_not_asked_for_more_when_tls_is_wanted() {
    let database = Postgres::shared(0).database().await;
    let url = format!("b={}?sslmode=verify-full", database.url("postgres"));
    let address = Address::read(&url).expect("an address");
    let refused = Session::open(&address, None, "reshard").await;
    let said = refused.expect_err("no TLS").to_string();
    assert!(said.contains("speaks no TLS"), "{said}");
}
