//! Credentials of AWS's chain, kept until shortly before they expire.

use crate::results::StoreError;
use aws_config::SdkConfig;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use std::time::{Duration, SystemTime};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// New credentials are asked for so long before the old ones expire. AWS hands out the next ones that early.
const REFRESH_BEFORE: Duration = Duration::from_secs(5 * 60);

/// After a refresh that failed, the old credentials are used for so long before the next try, so that not
/// every call waits for a provider that is down.
const REFRESH_AGAIN: Duration = Duration::from_secs(15);

/// How long the provider may take (STS or the node's metadata, with a retry).
const PROVIDE_TIMEOUT: Duration = Duration::from_secs(4);

pub(super) struct Credentials {
    provider: SharedCredentialsProvider,
    /// One refresh runs at a time; other calls wait for it, because they have nothing else to sign with.
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    credentials: rusty_s3::Credentials,
    expiry: Option<SystemTime>,
    not_before: Option<Instant>,
}

impl Kept {
    fn is_fresh(&self) -> bool {
        let waiting = self.not_before.is_some_and(|at| Instant::now() < at);
        self.lasts(REFRESH_BEFORE) || (waiting && self.lasts(Duration::ZERO))
    }

    fn lasts(&self, time: Duration) -> bool {
        self.expiry.is_none_or(|expiry| SystemTime::now() + time < expiry)
    }
}

impl Credentials {
    pub(super) fn new(config: &SdkConfig) -> Option<Self> {
        Some(Self { provider: config.credentials_provider()?, kept: Mutex::new(None) })
    }

    pub(super) async fn get(&self) -> Result<rusty_s3::Credentials, StoreError> {
        let mut kept = self.kept.lock().await;
        if let Some(kept) = kept.as_ref().filter(|it| it.is_fresh()) {
            return Ok(kept.credentials.clone());
        }
        match (self.provide().await, kept.as_mut()) {
            (Ok(new), _) => {
                let credentials = new.credentials.clone();
                *kept = Some(new);
                Ok(credentials)
            }
            (Err(error), Some(old)) if old.lasts(Duration::ZERO) => {
                tracing::warn!(%error, "could not refresh the credentials; still using the old ones");
                old.not_before = Some(Instant::now() + REFRESH_AGAIN);
                Ok(old.credentials.clone())
            }
            (Err(error), _) => Err(error),
        }
    }

    async fn provide(&self) -> Result<Kept, StoreError> {
        let failed = |detail| StoreError { name: "not-sent", detail };
        let found = timeout(PROVIDE_TIMEOUT, self.provider.provide_credentials())
            .await
            .map_err(|_| failed(format!("no credentials within {PROVIDE_TIMEOUT:?}")))?
            .map_err(|error| failed(format!("no credentials: {}", net::https::chain(&error))))?;
        let (key, secret) = (found.access_key_id(), found.secret_access_key());
        let credentials = match found.session_token() {
            Some(token) => rusty_s3::Credentials::new_with_token(key, secret, token),
            None => rusty_s3::Credentials::new(key, secret),
        };
        Ok(Kept { credentials, expiry: found.expiry(), not_before: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_credential_types::Credentials as Provided;
    use aws_credential_types::provider::error::CredentialsError;
    use aws_credential_types::provider::future;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A provider that answers once, with credentials of this lifetime, and fails from then on.
    #[derive(Debug, Clone)]
    struct Once {
        lifetime: Duration,
        asked: Arc<AtomicU32>,
    }

    impl ProvideCredentials for Once {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let asked = self.asked.fetch_add(1, Ordering::Relaxed);
            let expiry = Some(SystemTime::now() + self.lifetime);
            future::ProvideCredentials::ready(match asked {
                0 => Ok(Provided::new("key", "secret", None, expiry, "test")),
                _ => Err(CredentialsError::not_loaded("down")),
            })
        }
    }

    async fn asked_for(lifetime: Duration, calls: u32) -> (u32, bool) {
        let asked = Arc::new(AtomicU32::new(0));
        let provider = SharedCredentialsProvider::new(Once { lifetime, asked: asked.clone() });
        let config = SdkConfig::builder().credentials_provider(provider).build();
        let credentials = Credentials::new(&config).expect("a provider");
        let mut last = true;
        for _ in 0..calls {
            last = credentials.get().await.is_ok();
        }
        (asked.load(Ordering::Relaxed), last)
    }

    #[tokio::test]
    async fn fresh_ones_are_kept() {
        assert_eq!(asked_for(REFRESH_BEFORE * 2, 3).await, (1, true));
    }

    #[tokio::test]
    async fn old_ones_serve_while_the_provider_is_down_and_it_is_not_pestered() {
        assert_eq!(asked_for(REFRESH_BEFORE / 2, 5).await, (2, true));
    }

    #[tokio::test]
    async fn expired_ones_are_not_used() {
        assert_eq!(asked_for(Duration::ZERO, 2).await, (2, false));
    }
}
