//! Files become an OCI image in one archive: `docker load`, `podman load` and `skopeo` read it.
//! The same files give the same bytes, whenever and by whom.

use crate::setup::{self, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whom the program runs as; distroless images call this user `nonroot`.
const USER: &str = "65532:65532";
const NAME: &str = "spillway";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Something that is stored under its own hash.
struct Blob {
    digest: String,
    size: usize,
}

impl Blob {
    /// How other parts of the image name it.
    fn descriptor(&self, kind: &str) -> Value {
        json!({
            "mediaType": format!("application/vnd.oci.image.{kind}"),
            "digest": format!("sha256:{}", self.digest),
            "size": self.size,
        })
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.digest)
    }
}

/// The files of an image for one architecture, by Go's name of it, as images have it.
pub(crate) struct ImageFiles {
    pub(crate) architecture: &'static str,
    pub(crate) root: PathBuf,
}

/// Writes the archive, of one image or of an index with one for each architecture; its length. The first
/// is what `docker load` takes, which knows no index.
pub(crate) fn write(folder: &Path, all: &[ImageFiles], archive: &Path) -> Result<u64> {
    let layout = folder.join("layout");
    let blobs = layout.join("blobs/sha256");
    if layout.exists() {
        fs::remove_dir_all(&layout).map_err(|why| format!("{}: {why}", layout.display()))?;
    }
    fs::create_dir_all(&blobs).map_err(|why| format!("{}: {why}", blobs.display()))?;
    let images: Vec<Image> =
        all.iter().map(|files| image(folder, &blobs, files)).collect::<Result<_>>()?;
    let Some(first) = images.first() else { return Err("an image of nothing".to_owned()) };
    let mut entry = match &images[..] {
        [only] => only.manifest.clone(),
        several => {
            let manifests: Vec<&Value> = several.iter().map(|image| &image.manifest).collect();
            let index = json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "manifests": manifests,
            });
            keep(&blobs, index.to_string().as_bytes())?.descriptor("index.v1+json")
        }
    };
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": VERSION });
    put(&layout, "index.json", &json!({ "schemaVersion": 2, "manifests": [entry] }))?;
    put(&layout, "oci-layout", &json!({ "imageLayoutVersion": "1.0.0" }))?;
    // What `docker load` looks for.
    let docker = json!([{
        "Config": first.configuration.path(),
        "RepoTags": [format!("{NAME}:{VERSION}")],
        "Layers": [first.layer.path()],
    }]);
    put(&layout, "manifest.json", &docker)?;
    tar(&layout, archive)?;
    let length =
        fs::metadata(archive).map_err(|why| format!("{}: {why}", archive.display()))?.len();
    Ok(length)
}

/// One of an index.
struct Image {
    /// How it is named, platform included.
    manifest: Value,
    configuration: Blob,
    layer: Blob,
}

fn image(folder: &Path, blobs: &Path, files: &ImageFiles) -> Result<Image> {
    let plain = folder.join(format!("layer-{}.tar", files.architecture));
    tar(&files.root, &plain)?;
    let unpacked = hash(&read(&plain)?);
    let layer = keep(blobs, &compressed(&plain)?)?;
    let configuration = configuration(files.architecture, &unpacked);
    let configuration = keep(blobs, configuration.to_string().as_bytes())?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": configuration.descriptor("config.v1+json"),
        "layers": [layer.descriptor("layer.v1.tar+gzip")],
    });
    let mut manifest = keep(blobs, manifest.to_string().as_bytes())?.descriptor("manifest.v1+json");
    manifest["platform"] = json!({ "architecture": files.architecture, "os": "linux" });
    Ok(Image { manifest, configuration, layer })
}

fn configuration(architecture: &str, layer: &str) -> Value {
    json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "User": USER,
            "Entrypoint": ["/spillway"],
            "Labels": {
                "org.opencontainers.image.title": NAME,
                "org.opencontainers.image.version": VERSION,
                "org.opencontainers.image.licenses": "Apache-2.0",
            },
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
    })
}

/// A folder as a tar that does not tell who made it when.
fn tar(folder: &Path, archive: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--format=ustar", "--sort=name", "--mtime=@0", "--owner=0", "--group=0"])
        .args(["--numeric-owner"])
        .arg("--file")
        .arg(archive)
        .arg("--directory")
        .arg(folder)
        .args(names(folder)?);
    setup::run(&format!("tar {}", archive.display()), &mut tar)
}

/// What lies in a folder: named, so that no `./` gets in front.
fn names(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    let mut names: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.file_name().into())).collect();
    names.sort();
    Ok(names)
}

fn compressed(file: &Path) -> Result<Vec<u8>> {
    let output = Command::new("gzip").args(["--no-name", "--best", "--stdout"]).arg(file).output();
    let output = output.map_err(|why| format!("gzip: {why}"))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!("gzip: {}", output.status))
    }
}

fn keep(blobs: &Path, bytes: &[u8]) -> Result<Blob> {
    let digest = hash(bytes);
    let path = blobs.join(&digest);
    fs::write(&path, bytes).map_err(|why| format!("{}: {why}", path.display()))?;
    Ok(Blob { digest, size: bytes.len() })
}

fn put(layout: &Path, name: &str, content: &Value) -> Result<()> {
    let path = layout.join(name);
    fs::write(&path, content.to_string()).map_err(|why| format!("{}: {why}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|why| format!("{}: {why}", path.display()))
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json_of(layout: &Path, name: &str) -> Value {
        serde_json::from_slice(&read(&layout.join(name)).expect("a file")).expect("JSON")
    }

    fn blob(layout: &Path, descriptor: &Value) -> Value {
        let digest = descriptor["digest"].as_str().expect("a digest").replace(':', "/");
        json_of(layout, &format!("blobs/{digest}"))
    }

    #[test]
    fn two_architectures_are_an_index_of_two_images_and_docker_takes_the_first() {
        let folder = std::env::temp_dir().join(format!("spillway-archive-{}", std::process::id()));
        let files = ["amd64", "arm64"].map(|architecture| {
            let root = folder.join(architecture);
            fs::create_dir_all(&root).expect("a folder");
            fs::write(root.join("spillway"), architecture).expect("a file");
            ImageFiles { architecture, root }
        });
        write(&folder, &files, &folder.join("image.tar")).expect("written");
        let layout = folder.join("layout");
        let top = json_of(&layout, "index.json");
        assert_eq!(top["manifests"].as_array().map(Vec::len), Some(1));
        let index = blob(&layout, &top["manifests"][0]);
        let mut digests = Vec::new();
        for (at, architecture) in ["amd64", "arm64"].into_iter().enumerate() {
            let entry = &index["manifests"][at];
            assert_eq!(entry["platform"]["architecture"], architecture);
            let manifest = blob(&layout, entry);
            let configuration = blob(&layout, &manifest["config"]);
            assert_eq!(configuration["architecture"], architecture);
            digests.push(manifest["config"]["digest"].to_string());
        }
        assert_ne!(digests[0], digests[1]);
        let docker = json_of(&layout, "manifest.json");
        let first = digests[0].trim_matches('"').replace(':', "/");
        assert_eq!(docker[0]["Config"], format!("blobs/{first}"));
        fs::remove_dir_all(&folder).expect("removed");
    }
}
