//! Stands in for discovery and the signed client.

use std::time::Duration;

use crate::lexicon::Method;
use crate::types::Did;

#[derive(Debug)]
pub struct Federation {
    pub server: Did,
}

#[derive(Clone, Copy, Debug)]
pub enum Age {
    First,
    Known,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountHome {
    Here,
    Elsewhere(Did),
    Nowhere,
}

#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("where the account lives cannot be told now")]
pub struct HomeUnverified;

#[derive(Clone, Copy, Debug)]
pub struct Actor<'a> {
    pub account: &'a Did,
    pub device: Option<&'a str>,
}

#[derive(Clone, Debug)]
pub enum CallError {
    NotSent(&'static str),
    NoAnswer,
    Refused { status: u16, error: String, message: String, retry_after: Option<Duration> },
    Unreadable,
}

impl Federation {
    pub fn is_on(&self) -> bool {
        false
    }

    pub fn server(&self) -> &Did {
        &self.server
    }

    #[allow(clippy::unused_async, reason = "stub")]
    pub async fn home_of(&self, _account: &Did, _age: Age) -> Result<AccountHome, HomeUnverified> {
        Ok(AccountHome::Here)
    }

    #[allow(clippy::unused_async, reason = "stub")]
    pub async fn procedure<M: Method>(
        &self,
        _peer: &Did,
        _input: &M::Input,
        _actor: Option<Actor<'_>>,
    ) -> Result<M::Output, CallError> {
        Err(CallError::NotSent("federation is off"))
    }

    #[allow(clippy::unused_async, reason = "stub")]
    pub async fn query<M: Method>(
        &self,
        _peer: &Did,
        _params: &M::Params,
        _actor: Option<Actor<'_>>,
    ) -> Result<M::Output, CallError> {
        Err(CallError::NotSent("federation is off"))
    }
}
