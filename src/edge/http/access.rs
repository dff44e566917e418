//! Who may ask what: tokens, their roles, and who gives an order.

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use sha2::{Digest, Sha256};

use super::sets::Refusal;

/// What a token may be used for; each role may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Ask, and change nothing.
    Read,
    /// Give orders that hold to the guards.
    Operate,
    /// Give any order: forced ones, rollbacks, the end of the node.
    Admin,
}

impl Role {
    /// The least first.
    pub const ALL: [Role; 3] = [Role::Read, Role::Operate, Role::Admin];

    /// As in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Operate => "operate",
            Role::Admin => "admin",
        }
    }
}

/// A token: only what it hashes to is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Whose it is.
    pub name: String,
    /// What it may be used for.
    pub role: Role,
    /// SHA-256 of it.
    pub hash: [u8; 32],
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("name", &self.name).field("role", &self.role).finish_non_exhaustive()
    }
}

impl Token {
    /// What a token hashes to.
    pub fn hash(secret: &[u8]) -> [u8; 32] {
        Sha256::digest(secret).into()
    }
}

/// Who may ask what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Without one, whoever reaches the surface may do everything.
    pub tokens: Vec<Token>,
    /// Whether `/metrics` is for those without a token too.
    pub open_metrics: bool,
    /// The host names by which the surface may be asked, beside its addresses.
    pub names: Vec<String>,
}

impl Access {
    /// Whose token that is. All are looked at, and whole, so that the time tells nothing.
    pub(super) fn find(&self, secret: &[u8]) -> Option<&Token> {
        let hash = Token::hash(secret);
        let differ = |token: &Token| token.hash.iter().zip(hash).fold(0, |all, (one, other)| all | (one ^ other));
        self.tokens.iter().fold(None, |found, token| if differ(token) == 0 { Some(token) } else { found })
    }
}

/// Who asks; and what is to be told of it, if it is an order.
#[derive(Clone, Debug, Default)]
pub(super) struct Asker {
    /// The token's name and role; none: nobody is asked for one, or not for this.
    token: Option<(Arc<str>, Role)>,
    /// There are tokens, and who asks has none of them.
    is_stranger: bool,
    note: Arc<Mutex<Note>>,
}

/// An order, for the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Note {
    /// Who gives it.
    pub(super) by: String,
    /// Why.
    pub(super) reason: String,
    /// What is beside its path.
    pub(super) what: String,
}

impl Asker {
    pub(super) fn with(token: Option<&Token>) -> Self {
        let token = token.map(|token| (token.name.as_str().into(), token.role));
        Asker { token, ..Asker::default() }
    }

    /// Who is let in without a token although there are some.
    pub(super) fn stranger() -> Self {
        Asker { is_stranger: true, ..Asker::default() }
    }

    /// Whether nobody knows who asks, although somebody could be known.
    pub(super) fn is_stranger(&self) -> bool {
        self.is_stranger
    }

    /// Nothing if nobody has one.
    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_ref().map(|(name, _)| &**name)
    }

    /// Nothing if nobody has one.
    pub(super) fn role(&self) -> Option<Role> {
        self.token.as_ref().map(|(_, role)| *role)
    }

    /// Refuses who may not do what needs that role.
    pub(super) fn needs(&self, role: Role) -> Result<(), Refusal> {
        match &self.token {
            Some((name, has)) if *has < role => {
                let (role, has) = (role.name(), has.name());
                let cause = format!("this needs a token of role {role}, and {name}'s is {has}");
                Err(Refusal(StatusCode::FORBIDDEN, cause))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Who gives an order, by what its body says: a token's owner need not say it, and is named beside whoever else is.
    pub(super) fn giver(&self, said: &str) -> String {
        match (self.token(), said.trim()) {
            (None, said) => said.to_owned(),
            (Some(own), "") => own.to_owned(),
            (Some(own), said) if own == said => own.to_owned(),
            (Some(own), said) => format!("{said} via {own}"),
        }
    }

    /// It is an order: what the log is to tell of it, whatever comes of it.
    pub(super) fn orders(&self, by: &str, reason: &str, what: String) {
        *self.lock() = Note { by: by.to_owned(), reason: reason.to_owned(), what };
    }

    /// What was said of it.
    pub(super) fn note(&self) -> Note {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Note> {
        self.note.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Asker {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Asker>().cloned().expect("the guard stands before every route"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str, role: Role, secret: &str) -> Token {
        Token { name: name.to_owned(), role, hash: Token::hash(secret.as_bytes()) }
    }

    #[test]
    fn a_token_is_found_by_what_it_hashes_to_and_never_shown() {
        let tokens = vec![token("alice", Role::Admin, "a secret"), token("noc", Role::Read, "another")];
        let access = Access { tokens, ..Access::default() };
        let found = |secret: &str| access.find(secret.as_bytes()).map(|token| token.name.as_str());
        assert_eq!((found("a secret"), found("another")), (Some("alice"), Some("noc")));
        assert_eq!((found(""), found("a secret "), found("a secre")), (None, None, None));
        // sha256sum says the same.
        let told: String = Token::hash(b"abc").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(told, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(format!("{:?}", access.tokens[1]), r#"Token { name: "noc", role: Read, .. }"#);
    }

    #[test]
    fn a_role_may_do_what_those_below_it_may() {
        for (nth, role) in Role::ALL.into_iter().enumerate() {
            let asker = Asker::with(Some(&token("noc", role, "")));
            let may = Role::ALL.map(|needed| asker.needs(needed).is_ok());
            assert_eq!(may, [true, nth >= 1, nth >= 2], "{role:?}");
        }
        let refusal = Asker::with(Some(&token("noc", Role::Read, ""))).needs(Role::Admin).expect_err("too low");
        assert_eq!(
            (refusal.0, &*refusal.1),
            (StatusCode::FORBIDDEN, "this needs a token of role admin, and noc's is read")
        );
        assert_eq!(Asker::default().needs(Role::Admin), Ok(()));
    }

    #[test]
    fn a_token_s_owner_gives_the_order_whatever_the_body_says() {
        let noc = Asker::with(Some(&token("noc", Role::Operate, "")));
        assert_eq!([noc.giver(""), noc.giver("noc"), noc.giver(" alice ")], ["noc", "noc", "alice via noc"]);
        assert_eq!([Asker::default().giver("alice"), Asker::default().giver("")], ["alice", ""]);
    }
}
