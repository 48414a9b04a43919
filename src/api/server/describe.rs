//! `blue.catbird.server.describe`: software version, protocol version, kinds, limits, and the operator's contact.
//!
//! Invariant: the answer follows from settings and constants alone, so that it costs no query and reveals nothing about
//! any account.

use crate::config::{self, Admission, Invitations, Mode};
use crate::federation::own_support;
use crate::lexicon::peer::defs::Support;
use crate::lexicon::server::describe::{Describe, Error, Limits, Output, Quota, Retention};
use crate::mls;
use crate::quota;
use crate::xrpc::{Anyone, Call, Failure, Fault, Services};

pub async fn describe(cx: &Services, _: Anyone, _: Call<Describe>) -> Result<Output, Failure<Error>> {
    let config = &cx.config;
    let Support { version, protocol_version, entry_kinds, delivery_kinds, features } = own_support();
    let url = |url: &Option<url::Url>| url.as_ref().map(url::Url::to_string);
    Ok(Output {
        server: cx.log.home().clone(),
        version,
        protocol_version,
        entry_kinds,
        delivery_kinds,
        features,
        cipher_suites: mls::SUITES.into_iter().map(u64::from).collect(),
        handshake_policies: vec!["opaque".to_owned()],
        accounts: match config.identity.admission {
            Admission::Open => "open",
            Admission::Allowlist => "allowlist",
            Admission::Invite => "invite",
        }
        .to_owned(),
        invitations: match config.identity.invitations {
            Invitations::Everyone => "everyone",
            Invitations::Contacts => "contacts",
            Invitations::Nobody => "nobody",
        }
        .to_owned(),
        federation: match config.federation.mode {
            Mode::Off => "off",
            Mode::Open => "open",
            Mode::Allowlist => "allowlist",
        }
        .to_owned(),
        limits: limits(&config.http)?,
        retention: retention(&config.log.retention)?,
        quotas: quotas(&config.quotas),
        providers: Vec::new(),
        contact: url(&config.operator.contact),
        terms: url(&config.operator.terms),
        privacy_policy: url(&config.operator.privacy_policy),
    })
}

fn limits(http: &config::Http) -> Result<Limits, Failure<Error>> {
    Ok(Limits {
        body_bytes: number(http.bodies.ordinary_bytes)?,
        message_bytes: number(http.bodies.message_bytes)?,
        commit_bytes: number(http.bodies.commit_bytes)?,
        application_message_bytes: number(mls::limits::APPLICATION_BYTES)?,
        handshake_message_bytes: number(mls::limits::COMMIT_BYTES)?,
        welcome_bytes: number(mls::limits::WELCOME_BYTES)?,
        group_info_bytes: number(mls::limits::GROUP_INFO_BYTES)?,
        key_package_bytes: number(mls::limits::KEY_PACKAGE_BYTES)?,
        group_leaves: number(mls::limits::LEAF_SLOTS)?,
        request_timeout_ms: number(http.request_timeout.as_millis())?,
    })
}

fn retention(kept: &config::Retention) -> Result<Retention, Failure<Error>> {
    Ok(Retention {
        messages_days: number(kept.messages_days)?,
        commits_days: number(kept.commits_days)?,
        notices_days: number(kept.notices_days)?,
        welcomes_days: number(kept.welcomes_days)?,
        device_lapse_days: number(kept.lapse_days)?,
    })
}

fn quotas(settings: &config::Quotas) -> Vec<Quota> {
    let quotas = quota::limits(settings).into_iter();
    quotas.map(|(quota, limit)| Quota { name: quota.name().to_owned(), limit }).collect()
}

fn number<N: TryInto<u64>>(value: N) -> Result<u64, Failure<Error>>
where
    N::Error: std::error::Error + Send + Sync + 'static,
{
    value.try_into().map_err(|error| Fault::internal(error).into())
}
