//! The command itself, with the map that the real `spillway shards` made.

use std::path::Path;
use std::process::Output;
use support::{Database, PASSWORD, Postgres, SECRET, folder, program, reshard, run_with};
use tempfile::TempDir;
use tokio::process::Command;

const RULES: &str = r#"
    [[route]]
    name  = "entries"
    match = { path = "/entries" }
    shard = { map = "market", from = ["query:id"] }

    [shard_map.market]
    live     = true
    key_type = "int"
    ranges   = [ { from = 1, shard = "a" }, { from = 100, shard = "b" } ]
    until    = 300
    shards   = { a = { upstream = "app-a" }, b = { upstream = "app-b" }, d = { upstream = "app-d" } }
"#;
const TABLE: &str =
    "CREATE TABLE orders (instrument_id int, id int, PRIMARY KEY (instrument_id, id))";

/// A map in a store, and two databases.
struct World {
    folder: TempDir,
    source: Database,
    target: Database,
}

impl World {
    async fn start() -> Self {
        let (source, target) = (Postgres::shared(0), Postgres::shared(1));
        let (source, target) = (source.database().await, target.database().await);
        let folder = folder();
        let own = Self { folder, source, target };
        std::fs::write(own.path("routes.toml"), RULES).expect("a rules file");
        std::fs::write(own.path("secret"), SECRET).expect("a secret");
        std::fs::create_dir(own.path("results")).expect("a folder");
        let [routes, results, secret] = own.store();
        let init = ["shards", "init", "market", "--yes", &routes, &results, &secret];
        let made = run_with(&init, &[]).await;
        assert_eq!(made.code, Some(0), "{}", made.errors);
        own
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn store(&self) -> [String; 3] {
        [
            format!("--routes={}", self.path("routes.toml")),
            format!("--results=file:{}", self.path("results")),
            format!("--secret-file={}", self.path("secret")),
        ]
    }

    /// `reshard preflight`, with more arguments and variables.
    async fn preflight(&self, more: &[&str], variables: &[(&str, &str)]) -> Output {
        let [_, results, secret] = self.store();
        let defaults = [("--map", "market"), ("--range", "150..200"), ("--to", "d")];
        let mut command = Command::new(reshard());
        command
            .args(["preflight", "--measure", "1", "--accept", "members-unknown"])
            .args(["--tables", "orders:instrument_id"])
            .args([format!("--rules={}", self.path("routes.toml")), results, secret])
            .args([format!("--spillway={}", program().display())])
            .args(more)
            .args(
                defaults
                    .iter()
                    .filter(|(name, _)| !more.contains(name))
                    .flat_map(|(name, value)| [name, value]),
            )
            .env("PGPASSFILE", Path::new("/nonexistent"))
            .envs(variables.iter().copied());
        command.output().await.expect("the program starts")
    }

    fn shards(&self, user: &str) -> Vec<String> {
        let (own, other) = (self.source.url(user), self.target.url(user));
        vec![format!("--shard=b={own}"), format!("--shard=d={other}")]
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn a_preflight_says_what_is_wrong_by_shard_and_table_and_then_nothing() {
    let world = World::start().await;
    world.source.sql(TABLE).await;
    let shards = world.shards("postgres");
    let shards: Vec<&str> = shards.iter().map(String::as_str).collect();
    let ended = world.preflight(&shards, &[]).await;
    let said = text(&ended.stdout);
    assert_eq!(ended.status.code(), Some(1), "{said}{}", text(&ended.stderr));
    assert!(said.contains("shard d, public.orders\n  table-missing: "), "{said}");
    assert!(said.contains("one fault stands in its way"), "{said}");
    world.target.sql(TABLE).await;
    let lines = world.preflight(&[&shards[..], &["--json"]].concat(), &[]).await;
    assert_eq!(lines.status.code(), Some(0), "{}", text(&lines.stderr));
    let last = text(&lines.stdout);
    let last: serde_json::Value =
        serde_json::from_str(last.lines().last().expect("a line")).expect("JSON");
    let expected = serde_json::json!({ "event": "preflight", "faults": 0, "accepted": 1 });
    assert_eq!(last, expected);
}

#[tokio::test]
async fn what_can_not_be_a_move_ends_before_a_server_is_asked() {
    let world = World::start().await;
    for (more, code, why) in [
        (&["--range", "50..150"][..], 1, "several-owners"),
        (&["--range", "250..301"], 1, "bad-range"),
        (&["--range", "200..200"], 78, "holds no key"),
        (&["--range", "x..200"], 78, "not a key of type int"),
        (&["--to", "b"], 1, "same-owner"),
        (&["--map", "other"], 1, "other"),
        (&["--accept", "wal-level"], 78, "mend it"),
        (&["--accept", "nonsense"], 78, "no fault has that name"),
        (&["--tables", "orders:id"], 78, "named twice"),
        (&[], 78, "--shard b=postgresql://"),
    ] {
        let ended = world.preflight(more, &[]).await;
        let said = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(code), "{more:?}: {said}");
        assert!(said.contains(why), "{more:?}: {said}");
    }
}

#[tokio::test]
async fn a_password_of_the_environment_is_used_and_is_seen_nowhere() {
    let world = World::start().await;
    let role = format!("mover_{}", world.source.name);
    for database in [&world.source, &world.target] {
        let quoted = PASSWORD.replace('\'', "''");
        let create = format!("CREATE ROLE {role} LOGIN PASSWORD '{quoted}'");
        database.sql(&create).await;
        database.sql(TABLE).await;
    }
    let shards = world.shards(&role);
    let shards: Vec<&str> = shards.iter().map(String::as_str).collect();
    let own = [("RESHARD_PASSWORD_B", PASSWORD), ("PGPASSWORD", PASSWORD)];
    let ended = world.preflight(&shards, &own).await;
    let said = text(&ended.stdout) + &text(&ended.stderr);
    assert!(said.contains("not-owner") && said.contains("no-create"), "{said}");
    assert!(!said.contains(PASSWORD), "{said}");
    let wrong = world.preflight(&shards, &[("RESHARD_PASSWORD_B", "hunter2")]).await;
    let said = text(&wrong.stdout) + &text(&wrong.stderr);
    assert!(said.contains("28P01") && !said.contains("hunter2"), "{said}");
    assert_eq!(wrong.status.code(), Some(1));
}
