//! Passwords of the databases: from the environment or from the file that `psql` reads, never from arguments.

use super::address::Address;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// A password. It is printed nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    pub fn new(password: impl Into<String>) -> Self {
        Self(password.into())
    }

    /// The password itself, for the protocol and for a connection string.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Password(…)")
    }
}

/// Where passwords are looked for.
#[derive(Debug, Clone, Default)]
pub struct Passwords {
    file: Option<PathBuf>,
}

impl Passwords {
    /// Those of this process: `PGPASSFILE`, else `.pgpass` in the home folder.
    pub fn of_process() -> Self {
        let named = std::env::var_os("PGPASSFILE").map(PathBuf::from);
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pgpass"));
        Self { file: named.or_else(home) }
    }

    /// The name of the variable with the password of one shard: `RESHARD_PASSWORD_B`.
    pub fn variable(shard: &str) -> String {
        format!("RESHARD_PASSWORD_{}", shard.to_ascii_uppercase().replace('-', "_"))
    }

    /// The password of a database: of the shard's own variable, of `PGPASSWORD`, of the file; none where the server
    /// asks for none.
    ///
    /// # Errors
    /// When the file can't be read, or others may read it.
    pub fn of(&self, address: &Address) -> Result<Option<Password>, String> {
        let variables = [Self::variable(&address.shard), "PGPASSWORD".to_owned()];
        let mut given = variables.iter().filter_map(|name| std::env::var(name).ok());
        if let Some(password) = given.find(|password| !password.is_empty()) {
            return Ok(Some(Password(password)));
        }
        let Some(file) = self.file.as_ref().filter(|file| file.exists()) else { return Ok(None) };
        let wrong = |why: &dyn fmt::Display| format!("{}: {why}", file.display());
        let metadata = std::fs::metadata(file).map_err(|why| wrong(&why))?;
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(wrong(&"others may read it: `chmod 600` it"));
        }
        let text = std::fs::read_to_string(file).map_err(|why| wrong(&why))?;
        Ok(in_file(&text, address))
    }
}

/// The password of the first line that fits: `host:port:database:user:password`, `*` for any, `\` before `:`
/// and `\`.
fn in_file(text: &str, address: &Address) -> Option<Password> {
    let wanted = [&address.host, &address.port.to_string(), &address.database, &address.user];
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields(line);
        let (password, others) = fields.split_last().filter(|(_, others)| others.len() == 4)?;
        let fits = others.iter().zip(wanted).all(|(own, wanted)| own == "*" || own == wanted);
        fits.then(|| Password(password.clone()))
    })
}

fn fields(line: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        let is_last = found.len() == 5;
        match (letter, found.last_mut()) {
            ('\\', Some(last)) => last.extend(letters.next()),
            (':', Some(_)) if !is_last => found.push(String::new()),
            (letter, Some(last)) => last.push(letter),
            (_, None) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> Address {
        Address::read("b-1=postgresql://u@h:6000/d").expect("an address")
    }

    #[test]
    fn the_first_line_that_fits_has_the_password() {
        let of = |text: &str| in_file(text, &address()).map(|own| own.reveal().to_owned());
        let text = "# h:6000:d:u:no\nother:6000:d:u:no\n*:*:d:u:a\\:b\\\\c:d\nh:6000:d:u:no\n";
        assert_eq!(of(text).as_deref(), Some("a:b\\c:d"));
        assert_eq!(of("h:5432:d:u:x\nh:6000:d:u"), None);
    }

    #[test]
    fn a_password_is_printed_nowhere() {
        assert_eq!(format!("{:?}", Password::new("hunter2")), "Password(…)");
        assert_eq!(Passwords::variable("b-1"), "RESHARD_PASSWORD_B_1");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let file = std::env::temp_dir().join(format!("reshard-pgpass-{}", std::process::id()));
        std::fs::write(&file, "*:*:*:*:p").expect("a file");
        let passwords = Passwords { file: Some(file.clone()) };
        let set = |mode| {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("a mode");
        };
        set(0o644);
        let open = passwords.of(&address());
        set(0o600);
        let own = passwords.of(&address());
        std::fs::remove_file(&file).expect("it is there");
        assert!(open.is_err_and(|why| why.contains("chmod 600")));
        assert_eq!(own, Ok(Some(Password::new("p"))));
    }
}
