//! Cloudflare's proxy framework with its memory cache and its cache lock, as a peer of the sidecar.

use async_trait::async_trait;
use pingora_cache::cache_control::CacheControl;
use pingora_cache::filters::resp_cacheable;
use pingora_cache::lock::CacheLock;
use pingora_cache::{CacheKey, CacheMetaDefaults, MemCache, RespCacheable};
use pingora_core::Result;
use pingora_core::prelude::HttpPeer;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_http::ResponseHeader;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Nothing is kept whose origin says no lifetime.
const DEFAULTS: CacheMetaDefaults = CacheMetaDefaults::new(|_| None, 0, 0);

struct Proxy {
    origin: u16,
    stored: &'static MemCache,
    lock: &'static CacheLock,
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(("127.0.0.1", self.origin), false, String::new())))
    }

    fn request_cache_filter(&self, session: &mut Session, _: &mut ()) -> Result<()> {
        if !session.req_header().uri.path().starts_with("/pass/") {
            session.cache.enable(self.stored, None, None, Some(self.lock), None);
        }
        Ok(())
    }

    fn cache_key_callback(&self, session: &Session, _: &mut ()) -> Result<CacheKey> {
        Ok(CacheKey::new(session.req_header().uri.to_string(), ""))
    }

    fn response_cache_filter(
        &self,
        _: &Session,
        answer: &ResponseHeader,
        _: &mut (),
    ) -> Result<RespCacheable> {
        let control = CacheControl::from_resp_headers(answer);
        Ok(resp_cacheable(control.as_ref(), answer.clone(), false, &DEFAULTS))
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut port = || arguments.next().and_then(|text| text.parse::<u16>().ok());
    let (Some(own), Some(origin)) = (port(), port()) else {
        eprintln!("usage: PORT ORIGIN_PORT");
        std::process::exit(64);
    };
    // One thread, as all of them here; idle connections to the origin as the others keep them.
    let conf =
        ServerConf { threads: 1, upstream_keepalive_pool_size: 256, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let proxy = Proxy {
        origin,
        stored: Box::leak(Box::new(MemCache::new())),
        lock: Box::leak(Box::new(CacheLock::new(Duration::from_secs(5)))),
    };
    let mut service = http_proxy_service(&server.configuration, proxy);
    service.add_tcp(&format!("127.0.0.1:{own}"));
    server.add_service(service);
    server.run_forever();
}
