//! The feed of a socket and of server-sent events: the log's events for a listener, in the lexicon's form.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::log::{self, CutOver, Delivery, Ended, Filter, Signal, Standing};
use crate::types::{Cursor, Named};
use crate::xrpc::stream::{Over, Source, info};
use crate::xrpc::{Device, Failure, Fault, Services, parse};

pub struct Feed {
    /// The notice that the listener gets first.
    told: Option<Arc<Signal>>,
    events: CutOver,
}

impl Feed {
    /// After this cursor; without one, from the present on.
    pub async fn begin<E: Named>(
        cx: &Services,
        caller: &Device,
        cursor: Option<&str>,
        filter: Filter,
    ) -> Result<Self, Failure<E>> {
        let after = cursor.map(|cursor| parse::<_, E>(Cursor::parse, cursor)).transpose()?;
        let listener = cx.log.listen(caller.author.account_id, caller.author.device_row).await?;
        // The listener lost its right meanwhile: the check tells why.
        let listener = listener.ok_or(Fault::Unavailable)?;
        let standing = match after {
            Some(after) => cx.log.judge(after).await?,
            None => Standing::Current,
        };
        let told = outdated(standing).map(|why| info("OutdatedCursor", why)).transpose().map_err(log::Error::from)?;
        let events = cx.log.cut_over(listener, after, filter, cx.config.log.subscriber_buffer).await?;
        Ok(Self { told: told.map(Arc::new), events })
    }
}

impl Source for Feed {
    async fn next(&mut self) -> Result<Delivery, Over> {
        if let Some(info) = self.told.take() {
            return Ok(Delivery::Ephemeral(info));
        }
        match self.events.next().await {
            Ok(Ok(delivery)) => Ok(delivery),
            Ok(Err(Ended::TooSlow)) => Err(Over::TOO_SLOW),
            Ok(Err(Ended::Closed)) => Err(Over::CLOSED),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a subscription could not read the log");
                Err(Over::UNAVAILABLE)
            }
        }
    }

    fn next_now(&mut self) -> Option<Delivery> {
        if self.told.is_some() { None } else { self.events.next_now() }
    }

    fn cursor(&self) -> Cursor {
        self.events.cursor()
    }

    fn ended(&self) -> CancellationToken {
        self.events.listener().ended().clone()
    }
}

/// Notice to a client that continues after such a cursor.
fn outdated(standing: Standing) -> Option<&'static str> {
    match standing {
        Standing::Current => None,
        Standing::Lost => {
            Some("a restore took away something that was read before this cursor; nothing after it is missing")
        }
        Standing::Aged => Some("contents of events after this cursor are no longer kept; their headers still come"),
    }
}

/// A subscriber's filter, from its parameters.
pub fn filter(streams: Option<Vec<String>>, kinds: Option<Vec<String>>) -> Filter {
    Filter {
        streams: streams.unwrap_or_default().into_iter().collect(),
        kinds: kinds.unwrap_or_default().into_iter().collect(),
    }
}
