//! The container image: `SPILLWAY_IMAGE`, or what `cargo xtask image --quick` makes now.

use serde_json::Value;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use support::{Client, PATIENCE, folder, system};
use tokio::io::{AsyncBufReadExt, BufReader};

/// Of the archive: what a node fetches.
const BYTES_MAX: u64 = 15 * 1024 * 1024;
const USER: &str = "65532:65532";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn image() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        if let Some(file) = std::env::var_os("SPILLWAY_IMAGE") {
            return file.into();
        }
        let mut cargo = Command::new(env!("CARGO"));
        let built = cargo.args(["xtask", "image", "--quick"]).current_dir(root()).status();
        assert!(built.is_ok_and(|status| status.success()), "the image is not built");
        let target = std::env::var_os("CARGO_TARGET_DIR");
        target.map_or_else(|| root().join("target"), PathBuf::from).join("container/spillway.tar")
    })
}

/// Runs a program to its end; what it printed.
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|why| panic!("{command:?}: {why}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What skopeo, which knows nothing of how the image was made, reads in it.
fn inspect(more: &[&str]) -> Value {
    let name = format!("oci-archive:{}", image().display());
    let json = output(
        Command::new(system("skopeo", "SPILLWAY_SKOPEO")).arg("inspect").args(more).arg(name),
    );
    serde_json::from_str(&json).expect("JSON")
}

/// The files of the image, as a container has them.
fn unpacked() -> tempfile::TempDir {
    let (layout, files) = (folder(), folder());
    let from = format!("oci-archive:{}", image().display());
    let to = format!("dir:{}", layout.path().display());
    output(Command::new(system("skopeo", "SPILLWAY_SKOPEO")).args(["copy", "--quiet", &from, &to]));
    for layer in inspect(&[])["Layers"].as_array().expect("layers") {
        let digest = layer.as_str().expect("a digest").trim_start_matches("sha256:");
        let layer = layout.path().join(digest);
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--preserve-permissions", "--gzip", "--file"]).arg(layer);
        output(tar.arg("--directory").arg(files.path()));
    }
    // A temporary folder is its owner's only; the root of a container is everybody's.
    std::fs::set_permissions(files.path(), Permissions::from_mode(0o755)).expect("our folder");
    files
}

/// The program of the image in a root of its own, as the user of the image.
fn confined(files: &Path, arguments: &[&str]) -> Command {
    let id = output(Command::new("id").arg("-u"));
    assert_eq!(id.trim(), "0", "chroot needs root, as in a container");
    let mut command = Command::new("chroot");
    command.arg(format!("--userspec={USER}")).arg(files).arg("/spillway").args(arguments);
    // Nothing of ours but where `chroot` is.
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command
}

#[test]
fn the_image_is_small_runs_as_nobody_and_is_read_by_other_tools() {
    let bytes = std::fs::metadata(image()).expect("the archive").len();
    assert!(bytes < BYTES_MAX, "{bytes} bytes");
    let configuration = &inspect(&["--config"])["config"];
    assert_eq!(configuration["User"], USER);
    assert_eq!(configuration["Entrypoint"], serde_json::json!(["/spillway"]));
    // As Docker keeps images.
    let folder = folder();
    let from = format!("oci-archive:{}", image().display());
    let to = format!("docker-archive:{}/docker.tar:spillway:test", folder.path().display());
    output(Command::new(system("skopeo", "SPILLWAY_SKOPEO")).args(["copy", "--quiet", &from, &to]));
}

#[test]
fn there_is_nothing_in_it_but_the_programs_certificates_and_their_parts_list() {
    let files = unpacked();
    let found = output(Command::new("find").args([".", "-type", "f"]).current_dir(files.path()));
    let mut found: Vec<&str> = found.lines().collect();
    found.sort_unstable();
    let wanted =
        ["./etc/ssl/certs/ca-certificates.crt", "./reshard", "./spillway", "./spillway.cdx.json"];
    assert_eq!(found, wanted);
    let kind = output(
        Command::new("find").args([".", "-type", "d", "-perm", "1777"]).current_dir(files.path()),
    );
    assert_eq!(kind.trim(), "./tmp");
}

#[tokio::test]
async fn the_programs_run_in_an_empty_root_as_nobody() {
    let files = unpacked();
    std::fs::copy(root().join("routes.toml"), files.path().join("routes.toml")).expect("the rules");
    let mut reshard = Command::new("chroot");
    reshard.arg(format!("--userspec={USER}")).arg(files.path()).args(["/reshard", "--version"]);
    assert!(output(&mut reshard).starts_with("reshard "));
    let checked = output(&mut confined(files.path(), &["check", "/routes.toml"]));
    assert!(checked.contains("is good"), "{checked}");
    std::fs::write(files.path().join("rules.toml"), "").expect("rules");
    let flags = ["--routes=/rules.toml", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0"];
    let mut command =
        tokio::process::Command::from(confined(files.path(), &[&["proxy"], &flags[..]].concat()));
    let mut child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().expect("chroot");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("a line in time");
    let line = line.expect("text").expect("the program goes on");
    let said: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
    let admin = said["admin"].as_str().expect("an address");
    let live = Client::new(format!("http://{admin}")).get("/live").await;
    assert_eq!(live.status, 200);
}

/// The bill of materials as the schema of CycloneDX wants it.
#[tokio::test]
async fn the_parts_list_is_valid_and_names_what_is_linked_and_nothing_else() {
    let files = unpacked();
    let path = files.path().join("spillway.cdx.json");
    let said = support::python(
        "import os\n\
         from cyclonedx.schema import SchemaVersion\n\
         from cyclonedx.validation.json import JsonStrictValidator\n\
         text = open(os.environ['BILL']).read()\n\
         print(JsonStrictValidator(SchemaVersion.V1_6).validate_str(text))",
        &[("BILL".to_owned(), path.display().to_string())],
    )
    .await;
    assert_eq!(said, "None");
    let text = std::fs::read_to_string(&path).expect("the bill");
    let bill: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(bill["metadata"]["component"]["name"], "spillway");
    let parts = bill["components"].as_array().expect("components");
    let has = |name: &str| parts.iter().any(|part| part["name"] == name);
    assert!(
        has("hyper") && has("ring") && has("libsqlite3-sys") && has("tokio-postgres"),
        "{text}"
    );
    assert!(!has("serde_derive") && !has("tempfile"), "{text}");
    let own = ["http1", "inject", "memory-cache", "net", "reshard", "rules", "stores"];
    let is_own = |part: &Value| own.iter().any(|name| part["name"] == *name);
    let known = |part: &&Value| part["hashes"].is_array() || is_own(part);
    assert!(parts.iter().filter(known).count() == parts.len(), "parts without a checksum");
}
