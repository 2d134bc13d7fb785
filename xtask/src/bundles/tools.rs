//! The build tools, each with what is started and where its files are.

/// A build tool.
pub(super) struct Tool {
    pub(super) name: &'static str,
    /// Its application, a folder of `tests/bundles/apps`.
    pub(super) app: &'static str,
    pub(super) install: ToolSource,
    /// The program with its arguments.
    pub(super) command: &'static [&'static str],
    /// Where it writes what browsers then find below `folder`.
    pub(super) output: &'static str,
    pub(super) folder: &'static str,
    /// A file of the output that maps each plain name to the hashed one, where both are kept.
    pub(super) manifest: Option<&'static str>,
    /// Plain names that two builds cannot show to be plain; `*` stands for any characters.
    pub(super) plain: &'static [&'static str],
}

/// Where a tool comes from.
pub(super) enum ToolSource {
    /// From npm, at the versions of the application's lock file; the package with the version.
    Node(&'static str),
    /// From PyPI, at the versions of `requirements.txt`; the package with the version.
    Python(&'static str),
    /// From Debian: a library of Ruby, and the constant with its version.
    Ruby(&'static str, &'static str),
}

use ToolSource::{Node, Python, Ruby};

/// What is said of the one tool whose names are not made here.
pub(super) const PROPSHAFT: &str = "propshaft: not built here: it comes from rubygems.org only, \
    which this command doesn't use; tests/bundles/names/propshaft.toml is kept by hand";

const VITE: Tool = Tool {
    name: "vite",
    app: "vite",
    install: Node("vite"),
    command: &["vite", "build"],
    output: "dist/assets",
    folder: "/assets/",
    manifest: None,
    plain: &[],
};

const NEXT: Tool = Tool {
    name: "next",
    app: "next",
    install: Node("next"),
    command: &["next", "build"],
    output: ".next/static",
    folder: "/_next/static/",
    manifest: None,
    plain: &[],
};

const NEXT_WEBPACK: Tool =
    Tool { name: "next-webpack", command: &["next", "build", "--webpack"], ..NEXT };

const NUXT: Tool = Tool {
    name: "nuxt",
    app: "nuxt",
    install: Node("nuxt"),
    command: &["nuxt", "build"],
    output: ".output/public/_nuxt",
    folder: "/_nuxt/",
    manifest: None,
    plain: &[],
};

const SVELTEKIT: Tool = Tool {
    name: "sveltekit",
    app: "sveltekit",
    install: Node("@sveltejs/kit"),
    command: &["vite", "build"],
    output: "build/_app",
    folder: "/_app/",
    manifest: None,
    // It holds the public variables of the environment, which are no source, and always has this
    // name.
    plain: &["/_app/env.js"],
};

const ASTRO: Tool = Tool {
    name: "astro",
    app: "astro",
    install: Node("astro"),
    command: &["astro", "build"],
    output: "dist/_astro",
    folder: "/_astro/",
    manifest: None,
    plain: &[],
};

const ANGULAR: Tool = Tool {
    name: "angular",
    app: "angular",
    install: Node("@angular/build"),
    command: &["ng", "build"],
    output: "dist/browser",
    folder: "/",
    manifest: None,
    plain: &[],
};

const WEBPACK: Tool = Tool {
    name: "webpack",
    app: "webpack",
    install: Node("webpack"),
    command: &["webpack"],
    output: "dist",
    folder: "/static/",
    manifest: None,
    plain: &[],
};

const ESBUILD: Tool = Tool {
    name: "esbuild",
    app: "esbuild",
    install: Node("esbuild"),
    command: &[
        "esbuild",
        "src/main.js",
        "src/admin.js",
        "--bundle",
        "--minify",
        "--splitting",
        "--format=esm",
        "--outdir=dist",
        "--public-path=/static/",
        "--entry-names=[name]-[hash]",
        "--chunk-names=[name]-[hash]",
        "--asset-names=[name]-[hash]",
        "--loader:.png=file",
        "--loader:.svg=file",
    ],
    output: "dist",
    folder: "/static/",
    manifest: None,
    plain: &[],
};

const DJANGO: Tool = Tool {
    name: "django",
    app: "django",
    install: Python("Django"),
    command: &["python", "manage.py", "collectstatic", "--noinput"],
    output: "collected",
    folder: "/static/",
    manifest: Some("staticfiles.json"),
    plain: &[],
};

const SPROCKETS: Tool = Tool {
    name: "rails-sprockets",
    app: "rails-sprockets",
    install: Ruby("sprockets", "Sprockets::VERSION"),
    command: &["ruby", "compile.rb"],
    output: "public/assets",
    folder: "/assets/",
    manifest: None,
    // Its name is drawn by lot for an empty folder; later builds into the same folder find the file
    // and rewrite it.
    plain: &["/assets/.sprockets-manifest-*.json"],
};

pub(super) const TOOLS: [Tool; 11] = [
    VITE,
    NEXT,
    NEXT_WEBPACK,
    NUXT,
    SVELTEKIT,
    ASTRO,
    ANGULAR,
    WEBPACK,
    ESBUILD,
    DJANGO,
    SPROCKETS,
];
