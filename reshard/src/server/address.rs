//! Where the database of a shard is: `b=postgresql://user@host:5432/market?sslmode=verify-full`.

use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// PostgreSQL's own port.
const PORT: u16 = 5432;

/// Why a text is no address. None of these repeats the URL, which may contain a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressError {
    /// Name of the shard, as far as it could be read.
    pub shard: String,
    pub why: String,
}

impl fmt::Display for AddressError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the address of shard `{}`: {}", self.shard, self.why)
    }
}

impl std::error::Error for AddressError {}

/// How a connection is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsMode {
    /// Not at all.
    Disable,
    /// By TLS, with a certificate for this host of an authority of the file, or of a public one.
    VerifyFull { authorities: Option<PathBuf> },
}

/// The database of one shard. It holds no password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub shard: String,
    pub user: String,
    pub host: String,
    pub port: u16,
    pub database: String,
    pub tls: TlsMode,
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, host, port, database, .. } = self;
        write!(out, "{user}@{host}:{port}/{database}")
    }
}

impl Address {
    /// Reads `SHARD=postgresql://user@host[:port]/database[?sslmode=disable|verify-full&sslrootcert=FILE]`.
    ///
    /// # Errors
    /// When it has another form, or contains a password: the arguments of a process can be read by all.
    pub fn read(text: &str) -> Result<Self, AddressError> {
        let Some((shard, url)) = text.split_once('=') else {
            let why = "write SHARD=postgresql://user@host:port/database".to_owned();
            return Err(AddressError { shard: "?".to_owned(), why });
        };
        let shard = shard.trim();
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
        if shard.is_empty() || shard.len() > 64 || !shard.chars().all(is_name) {
            let why = "the name of a shard is 1 to 64 of a-z, 0-9, - and _".to_owned();
            return Err(AddressError { shard: "?".to_owned(), why });
        }
        Self::of_url(shard, url.trim()).map_err(|why| AddressError { shard: shard.to_owned(), why })
    }

    fn of_url(shard: &str, url: &str) -> Result<Self, String> {
        let rest = ["postgresql://", "postgres://"].iter().find_map(|it| url.strip_prefix(it));
        let rest = rest.ok_or("it does not begin with postgresql://")?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').ok_or("no database is named")?;
        let (user, server) = authority.rsplit_once('@').ok_or("no user is named")?;
        if user.contains(':') {
            return Err("it contains a password, which every user of this machine could read: \
                take it out and give it by the environment or in ~/.pgpass"
                .to_owned());
        }
        let (user, database) = (decoded(user)?, decoded(database)?);
        if user.is_empty() || database.is_empty() {
            return Err("user or database is empty".to_owned());
        }
        let (host, port) = host_and_port(server)?;
        let tls = tls_mode(&host, query)?;
        Ok(Self { shard: shard.to_owned(), user, host, port, database, tls })
    }
}

fn decoded(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| "a part of it is no UTF-8")?.into_owned();
    if decoded.contains(char::is_control) {
        return Err("a part of it contains a control character".to_owned());
    }
    Ok(decoded)
}

fn host_and_port(server: &str) -> Result<(String, u16), String> {
    if server.contains(',') {
        return Err("it names several hosts: name the one that takes writes".to_owned());
    }
    let (host, port) = match server.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, after)) => (host, Some(after.strip_prefix(':').ok_or("its port is no port")?)),
        None => match server.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (server, None),
        },
    };
    let host = decoded(host)?;
    if host.is_empty() || host.starts_with('/') {
        return Err("it names no host: sockets in the file system are not used, as the other \
            shard could not reach them"
            .to_owned());
    }
    match port.map(str::parse) {
        None => Ok((host, PORT)),
        Some(Ok(port)) if port > 0 => Ok((host, port)),
        Some(_) => Err("its port is no port".to_owned()),
    }
}

fn tls_mode(host: &str, query: &str) -> Result<TlsMode, String> {
    let (mut mode, mut authorities) = (None, None);
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match name {
            "sslmode" => mode = Some(decoded(value)?),
            "sslrootcert" => authorities = Some(PathBuf::from(decoded(value)?)),
            "password" => return Err("it contains a password: take it out".to_owned()),
            _ => return Err("it has other parameters than sslmode and sslrootcert".to_owned()),
        }
    }
    let is_local =
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match mode.as_deref() {
        Some("disable") => Ok(TlsMode::Disable),
        Some("verify-full") => Ok(TlsMode::VerifyFull { authorities }),
        None if is_local && authorities.is_none() => Ok(TlsMode::Disable),
        None => Ok(TlsMode::VerifyFull { authorities }),
        Some(_) => {
            Err("sslmode is disable or verify-full here: the others don't tell whether the \
            server is the right one (sslrootcert=FILE may be the server's own certificate)"
                .to_owned())
        }
    }
}

/// The databases of all shards, by the shards' names.
#[derive(Debug, Clone, Default)]
pub struct Addresses(BTreeMap<String, Address>);

impl Addresses {
    /// Reads addresses, one for each shard.
    ///
    /// # Errors
    /// When one is none, or a shard has two.
    pub fn read<'t>(texts: impl Iterator<Item = &'t str>) -> Result<Self, AddressError> {
        let mut own = BTreeMap::new();
        for text in texts {
            let address = Address::read(text)?;
            if let Some(other) = own.insert(address.shard.clone(), address) {
                let why = "it is given twice".to_owned();
                return Err(AddressError { shard: other.shard, why });
            }
        }
        Ok(Self(own))
    }

    /// The lines of a `--shards-file`: one address each, `#` begins a comment.
    pub fn lines(text: &str) -> impl Iterator<Item = &str> {
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
    }

    /// The names of all shards.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn of(&self, shard: &str) -> Option<&Address> {
        self.0.get(shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why_not(text: &str) -> String {
        Address::read(text).expect_err(text).to_string()
    }

    #[test]
    fn an_address_is_read_with_its_defaults() {
        let own = Address::read("b=postgresql://a%40b@db-1/market").expect("an address");
        assert_eq!(own.to_string(), "a@b@db-1:5432/market");
        assert_eq!(own.tls, TlsMode::VerifyFull { authorities: None });
        let own = Address::read("b=postgres://u@[::1]:6000/d").expect("an address");
        assert_eq!((own.host.as_str(), own.port, own.tls), ("::1", 6000, TlsMode::Disable));
        let own = "b=postgresql://u@127.0.0.1/d?sslmode=verify-full&sslrootcert=/ca.pem";
        let own = Address::read(own).expect("an address");
        assert_eq!(own.tls, TlsMode::VerifyFull { authorities: Some("/ca.pem".into()) });
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_repeated() {
        for text in ["b=postgresql://u:hunter2@h/d", "b=postgresql://u@h/d?password=hunter2"] {
            let why = why_not(text);
            assert!(why.contains("password") && !why.contains("hunter2"), "{why}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_shard() {
        for text in [
            "b=http://u@h/d",
            "b=postgresql://h/d",
            "b=postgresql://u@h",
            "b=postgresql://u@h:0/d",
            "b=postgresql://u@h:x/d",
            "b=postgresql://u@h,i/d",
            "b=postgresql://u@%2Frun/d",
            "b=postgresql://u@h/d?sslmode=require",
            "b=postgresql://u@h/d?options=-crow_security%3Doff",
            "b=postgresql://u@h/%00",
        ] {
            assert!(why_not(text).contains("shard `b`"), "{text}");
        }
        assert!(Address::read("B!=postgresql://u@h/d").is_err());
        let twice = ["a=postgresql://u@h/d", "a=postgresql://u@i/d"];
        assert!(Addresses::read(twice.into_iter()).is_err());
    }
}
