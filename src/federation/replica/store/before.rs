//! SQL on conversations just before one of their entries.

use std::collections::HashMap;

use crate::log::body::{ConvoBody, Role};
use crate::log::{Roster, RosterSeat};
use crate::storage::{Error, PgPool};
use crate::types::{Bytes, DeviceId, Did, Seq};

/// A conversation just before one of its entries.
pub struct Before {
    pub convo: ConvoBody,
    pub roster: Roster,
    /// The servers of all accounts that ever had a seat.
    pub servers: HashMap<Did, Did>,
}

fn did(text: &str) -> Result<Did, Error> {
    Did::parse(text).map_err(|_| Error::Corrupt("account.did"))
}

pub async fn before(pool: &PgPool, stream_id: i64, begins: Seq) -> Result<Before, Error> {
    let row = sqlx::query!(
        "select group_id, cipher_suite, handshake_policy, policy, metadata from convo where stream_id = $1",
        stream_id
    )
    .fetch_one(pool)
    .await?;
    let convo = ConvoBody {
        group_id: Bytes(row.group_id),
        cipher_suite: u16::try_from(row.cipher_suite).unwrap_or_default(),
        handshake_policy: if row.handshake_policy == 0 { "opaque" } else { "validated" }.to_owned(),
        policy: row.policy.to_string(),
        metadata: row.metadata.map(Bytes),
    };
    let (mut roster, mut servers) = (Roster::default(), HashMap::new());
    let seats = sqlx::query!(
        r#"select a.did, s.server, s.from_seq, s.role, s.role_name,
                  s.from_seq < $2 and coalesce(s.until_seq >= $2, true) as "stood!"
           from seat s join account a on a.id = s.account_id where s.stream_id = $1 order by s.from_seq"#,
        stream_id,
        begins.to_db()
    )
    .fetch_all(pool)
    .await?;
    for row in seats {
        let account = did(&row.did)?;
        if let Ok(server) = Did::parse(&row.server) {
            servers.insert(account.clone(), server);
        }
        if row.stood {
            let (from, role) = (Seq::from_db(row.from_seq), Role::from_db(row.role, row.role_name.as_deref()));
            roster.seats.insert(account, RosterSeat { from, role, server: row.server });
        }
    }
    let leaves = sqlx::query!(
        "select a.did, d.public_id, l.from_seq from seat_device l
         join account a on a.id = l.account_id join device d on d.id = l.device_id
         where l.stream_id = $1 and l.from_seq < $2 and coalesce(l.until_seq >= $2, true)",
        stream_id,
        begins.to_db()
    )
    .fetch_all(pool)
    .await?;
    for row in leaves {
        let device = DeviceId::parse(&row.public_id).map_err(|_| Error::Corrupt("device.public_id"))?;
        roster.leaves.insert((did(&row.did)?, device), Seq::from_db(row.from_seq));
    }
    Ok(Before { convo, roster, servers })
}
