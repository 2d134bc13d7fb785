//! What of routes.toml and wrangler.toml is still the demo's: decided from their text.

use crate::setup::Result;
use rules::demo;
use rules::fault::{Fault, Place};
use toml::de::{DeTable, DeValue};

/// The variable of the Worker that wins over `[edge] origin`.
pub(super) const ORIGIN: &str = "SPILLWAY_ORIGIN";
/// The zone of the demo's hosts, which is nobody's (RFC 2606).
const DEMO_ZONE: &str = "example.com";

/// A TOML file that remembers where everything stands.
pub(super) struct File<'t> {
    text: &'t str,
    tree: DeTable<'t>,
}

/// A value, and where it begins.
type Found<'f, 't> = (usize, &'f DeValue<'t>);

impl<'t> File<'t> {
    pub(super) fn parse(name: &str, text: &'t str) -> Result<Self> {
        match DeTable::parse(text) {
            Ok(tree) => Ok(Self { text, tree: tree.into_inner() }),
            Err(why) => Err(format!("{name}: {why}")),
        }
    }

    /// The value at a path of keys, and where it begins.
    fn value(&self, keys: &[&str]) -> Option<Found<'_, 't>> {
        let (last, tables) = keys.split_last()?;
        let mut table = &self.tree;
        for key in tables {
            table = table.get(*key)?.get_ref().as_table()?;
        }
        let value = table.get(*last)?;
        Some((value.span().start, value.get_ref()))
    }

    fn fault(&self, at: usize, path: &str, name: &'static str, why: String, remedy: &str) -> Fault {
        let mut place = Place::default();
        place.go_to(self.text, at);
        let (line, column) = (place.line, place.column);
        let (path, remedy) = (path.to_owned(), remedy.to_owned());
        Fault { line, column, path, name, reason: why, remedy, is_warning: false }
    }
}

/// The strings in a value: itself, or those of an array.
fn texts<'f>((at, value): Found<'f, '_>) -> Vec<(usize, &'f str)> {
    let of_array = value.as_array().into_iter().flat_map(|array| array.iter());
    let inner = of_array.map(|entry| (entry.span().start, entry.get_ref()));
    let all = std::iter::once((at, value)).chain(inner);
    all.filter_map(|(at, value)| Some((at, value.as_str()?))).collect()
}

/// What of the rules is the demo's. `bound` is the origin that the deployment sets itself.
pub(super) fn of_rules(rules: &File<'_>, bound: Option<&str>) -> Vec<Fault> {
    let mut faults = Vec::new();
    let is_bound = bound.is_some_and(|bound| !demo::is_origin(bound));
    if !is_bound {
        faults.extend(origin(rules, &["edge", "origin"]));
    }
    let keys: [&[&str]; 3] =
        [&["edge", "canonical", "from"], &["edge", "canonical", "to"], &["edge", "hosts"]];
    for keys in keys {
        let found = rules.value(keys).map(texts).unwrap_or_default();
        for (at, host) in found.into_iter().filter(|(_, host)| demo::is_host(host)) {
            let why = format!("`{host}` is the demo's host");
            let remedy = "Write the hosts that your own visitors ask, or leave the key out.";
            faults.push(rules.fault(at, &keys.join("."), "demo-hosts", why, remedy));
        }
    }
    faults
}

fn origin(file: &File<'_>, keys: &[&str]) -> Option<Fault> {
    let (at, value) = file.value(keys)?;
    let origin = value.as_str().filter(|origin| demo::is_origin(origin))?;
    let why = format!("`{origin}` is the demo's origin, which nobody has");
    let remedy = "Write scheme and host of your own origin, here or as SPILLWAY_ORIGIN in [vars] of \
        wrangler.toml; without either the zone's own origin is asked.";
    Some(file.fault(at, &keys.join("."), "demo-origin", why, remedy))
}

/// What of wrangler.toml is the demo's, for an environment of it. `is_routed` where wrangler's arguments
/// name a route or a domain already.
pub(super) fn of_wrangler(
    wrangler: &File<'_>,
    environment: Option<&str>,
    is_routed: bool,
) -> Vec<Fault> {
    let mut faults = Vec::from_iter(origin(wrangler, &variable(environment)));
    let inherited = || routes(wrangler, &[]);
    let own = environment.map(|name| routes(wrangler, &["env", name]));
    let routes = own.filter(|own| !own.is_empty()).unwrap_or_else(inherited);
    if is_routed || routes.iter().any(|(_, is_own)| *is_own) {
        return faults;
    }
    let (at, why) = match routes.first() {
        Some((at, _)) => (*at, "every route is of example.com, the demo's zone"),
        // Where the example in the file stands.
        None => (wrangler.text.find("# [[routes]]").unwrap_or(0), "there is no route of your zone"),
    };
    let remedy = "Name a host of your zone: [[routes]] with pattern = \"HOST/*\" and zone_name = \"ZONE\". \
        On workers.dev Cloudflare's Cache API stores nothing.";
    faults.push(wrangler.fault(at, "routes", "no-zone-route", why.to_owned(), remedy));
    faults
}

/// The origin that wrangler.toml binds, for an environment of it.
pub(super) fn bound(wrangler: &File<'_>, environment: Option<&str>) -> Option<String> {
    Some(wrangler.value(&variable(environment))?.1.as_str()?.to_owned())
}

/// Where wrangler.toml binds the origin. Environments don't inherit variables.
fn variable(environment: Option<&str>) -> Vec<&str> {
    let mut keys = environment.map_or_else(Vec::new, |name| vec!["env", name]);
    keys.extend(["vars", ORIGIN]);
    keys
}

/// Every route under a table, and whether it is of somebody's own zone.
fn routes(wrangler: &File<'_>, table: &[&str]) -> Vec<(usize, bool)> {
    let mut all = Vec::new();
    for key in ["route", "routes"] {
        let keys: Vec<&str> = table.iter().copied().chain([key]).collect();
        let Some((at, value)) = wrangler.value(&keys) else { continue };
        match value.as_array() {
            Some(array) => {
                let entry = |entry: &toml::Spanned<DeValue<'_>>| {
                    (entry.span().start, is_own_route(entry.get_ref()))
                };
                all.extend(array.iter().map(entry));
            }
            None => all.push((at, is_own_route(value))),
        }
    }
    all
}

/// A route is a pattern, or a table with one.
fn is_own_route(route: &DeValue<'_>) -> bool {
    let entry = |key: &str| route.as_table()?.get(key)?.get_ref().as_str();
    let Some(pattern) = route.as_str().or_else(|| entry("pattern")) else { return false };
    let host = pattern.split_once("://").map_or(pattern, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or_default().trim_start_matches('*');
    !is_of_demo_zone(host) && !entry("zone_name").is_some_and(is_of_demo_zone)
}

fn is_of_demo_zone(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    host.strip_suffix(DEMO_ZONE).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = include_str!("../../../routes.toml");
    const WRANGLER: &str = include_str!("../../../wrangler.toml");
    const OWN: &str = "https://origin.shop.example";

    fn file(text: &str) -> File<'_> {
        File::parse("a.toml", text).expect("good TOML")
    }

    /// `name path` of each fault, and the line that it names.
    fn named<'t>(text: &'t str, faults: &[Fault]) -> Vec<(String, &'t str)> {
        let line = |fault: &Fault| text.lines().nth(fault.line - 1).unwrap_or_default();
        faults.iter().map(|fault| (format!("{} {}", fault.name, fault.path), line(fault))).collect()
    }

    fn zone(text: &str, environment: Option<&str>) -> Option<&'static str> {
        of_wrangler(&file(text), environment, false).first().map(|fault| fault.name)
    }

    #[test]
    fn the_repositorys_own_files_are_refused_by_three_names() {
        let found = of_rules(&file(ROUTES), None);
        let found = named(ROUTES, &found);
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        let hosts = ["demo-hosts edge.canonical.from", "demo-hosts edge.canonical.to"];
        assert_eq!(names, ["demo-origin edge.origin", hosts[0], hosts[1]]);
        assert!(found[0].1.starts_with("origin = "), "{found:?}");
        assert!(found[1].1.starts_with("canonical = "), "{found:?}");
        let found = of_wrangler(&file(WRANGLER), None, false);
        assert_eq!(named(WRANGLER, &found), [("no-zone-route routes".to_owned(), "# [[routes]]")]);
    }

    #[test]
    fn rules_of_ones_own_are_not_refused() {
        for text in [
            "",
            "[edge]",
            "[edge]\norigin = \"https://origin.shop.example\"",
            "[edge]\nhosts = [\"shop.example\", \"notexample.com\"]",
            "[edge.canonical]\nfrom = [\"shop.example\"]\nto = \"www.shop.example\"",
        ] {
            assert_eq!(of_rules(&file(text), None), [], "{text}");
        }
    }

    #[test]
    fn an_origin_that_the_deployment_binds_wins() {
        let text = "[edge]\norigin = \"https://origin.example.com\"";
        assert_eq!(of_rules(&file(text), Some(OWN)), []);
        assert_eq!(of_rules(&file(text), Some(demo::ORIGIN))[0].name, "demo-origin");
        let wrangler = format!("[vars]\n{ORIGIN} = \"{OWN}\"\n[env.next.vars]\n{ORIGIN} = \"x\"");
        assert_eq!(bound(&file(&wrangler), None).as_deref(), Some(OWN));
        assert_eq!(bound(&file(&wrangler), Some("next")).as_deref(), Some("x"));
        assert_eq!(bound(&file(&wrangler), Some("other")), None, "variables are not inherited");
        assert_eq!(bound(&file(WRANGLER), None), None);
        let wrangler = format!("[vars]\n{ORIGIN} = \"{}\"", demo::ORIGIN);
        let found = of_wrangler(&file(&wrangler), None, true);
        let line = wrangler.lines().last().expect("a line");
        let name = format!("demo-origin vars.{ORIGIN}");
        assert_eq!(named(&wrangler, &found), [(name, line)], "the example, taken as it is");
    }

    #[test]
    fn hosts_are_looked_at_one_by_one() {
        let text = "[edge]\nhosts = [\n  \"shop.example\",\n  \"WWW.Example.com\",\n]";
        let found = of_rules(&file(text), None);
        assert_eq!(
            named(text, &found),
            [("demo-hosts edge.hosts".into(), "  \"WWW.Example.com\",")]
        );
    }

    #[test]
    fn a_route_of_ones_own_zone_is_enough_in_any_spelling() {
        for text in [
            "[[routes]]\npattern = \"www.shop.example/*\"\nzone_name = \"shop.example\"",
            "[[routes]]\npattern = \"www.shop.example\"\ncustom_domain = true",
            "routes = [\"www.example.com/*\", \"*.shop.example/*\"]",
            "route = \"https://notexample.com/*\"",
            "route = { pattern = \"shop.example/*\", zone_id = \"0\" }",
        ] {
            assert_eq!(zone(text, None), None, "{text}");
            assert_eq!(zone(text, Some("next")), None, "inherited: {text}");
        }
        for text in [
            "routes = []",
            "[[routes]]\npattern = \"www.example.com/*\"\nzone_name = \"example.com\"",
            "[[routes]]\nzone_name = \"shop.example\"",
            "route = \"*example.com/*\"",
            "route = \"https://*.example.com/*\"",
        ] {
            assert_eq!(zone(text, None), Some("no-zone-route"), "{text}");
        }
        let text = "[env.next]\nroute = \"shop.example/*\"";
        assert_eq!(zone(text, Some("next")), None);
        assert_eq!(zone(text, None), Some("no-zone-route"));
        assert_eq!(of_wrangler(&file(WRANGLER), None, true), [], "named in an argument");
    }
}
