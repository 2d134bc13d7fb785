//! What frameworks say of every answer by default, and the rules with which such answers are cached
//! all the same.

use support::{Answer, App, Client, Reply, Spillway};

const PLAIN: &str = r#"cache = { sidecar = "1m" }"#;

fn rules(cache: &str) -> String {
    format!("[[route]]\nname = \"page\"\nmatch = {{ path = \"/page\" }}\n{cache}\n")
}

/// A page as the framework answers it.
fn page(headers: &[(&str, &str)]) -> Reply {
    let page = Reply::ok("page").with("content-type", "text/html; charset=utf-8");
    headers.iter().fold(page, |page, (name, value)| page.with(name, value))
}

/// `cache-control` of `ActionController` for a page with a session.
fn rails() -> Reply {
    page(&[
        ("cache-control", "max-age=0, private, must-revalidate"),
        ("etag", "W/\"1f5e2d0c\""),
        ("set-cookie", "_market_session=6f2a; path=/; HttpOnly; SameSite=Lax"),
        ("vary", "Accept"),
        ("x-frame-options", "SAMEORIGIN"),
        ("x-request-id", "0e1f"),
        ("x-runtime", "0.012"),
    ])
}

/// A view under `never_cache` with `SessionMiddleware` and `CsrfViewMiddleware`.
fn django() -> Reply {
    page(&[
        ("cache-control", "max-age=0, no-cache, no-store, must-revalidate, private"),
        ("expires", "Tue, 24 Nov 2026 00:00:00 GMT"),
        ("set-cookie", "csrftoken=abc; Path=/; SameSite=Lax"),
        ("set-cookie", "sessionid=def; HttpOnly; Path=/; SameSite=Lax"),
        ("vary", "Cookie"),
        ("x-content-type-options", "nosniff"),
    ])
}

/// `res.render` with `express-session`.
fn express() -> Reply {
    page(&[
        ("etag", "W/\"4-Ck1VqNd45QIvq3AZd8XYQLvEhtA\""),
        ("set-cookie", "connect.sid=s%3Axyz; Path=/; HttpOnly"),
        ("vary", "Accept-Encoding"),
        ("x-powered-by", "Express"),
    ])
}

/// Two visitors with sessions of their own; what the second one gets.
async fn two_visitors(cache: &str, page: Reply) -> (App, Answer) {
    let app = App::start().await;
    app.on("/page", page);
    let sidecar = Spillway::proxy(&rules(cache), &app).start().await;
    let visitor = |session: &str| -> Client {
        sidecar.client().with("cookie", session).with("accept-encoding", "gzip")
    };
    visitor("_market_session=1; sessionid=1; connect.sid=1").get("/page").await;
    let second = visitor("_market_session=2; sessionid=2; connect.sid=2").get("/page").await;
    (app, second)
}

#[tokio::test]
async fn without_a_word_in_the_rule_no_such_page_is_shared() {
    for page in [rails(), django(), express()] {
        let (app, second) = two_visitors(PLAIN, page).await;
        assert!(!second.cache().starts_with("hit"), "{}", second.cache());
        assert_eq!(app.count("/page"), 2);
    }
}

#[tokio::test]
async fn a_rule_that_says_what_not_to_obey_shares_it_without_anybodys_cookie() {
    for (framework, page, overrides) in [
        ("Rails", rails(), r#""private", "must-revalidate""#),
        ("Django", django(), r#""private", "no-cache", "no-store", "must-revalidate""#),
        ("Express", express(), ""),
    ] {
        let cache = format!(
            "cache = {{ sidecar = \"1m\", ignore_cookies = true, strip_cookies = true, override = [{overrides}] }}"
        );
        let (app, second) = two_visitors(&cache, page).await;
        assert!(second.cache().starts_with("hit"), "{framework}: {}", second.cache());
        assert_eq!(second.header("set-cookie"), "", "{framework}");
        assert!(app.asked("/page").iter().all(|asked| asked.header("cookie").is_none()));
    }
}
