//! Names: addresses, and texts. One trait, so that tests can be the DNS.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::RData;
use tokio::sync::OnceCell;

use super::guard::is_localhost;

/// No answer now. What is definitely not there is an empty answer. Names no name: the text may reach a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name cannot be looked up now")]
pub struct DnsError;

/// Looks names up, without memory of its own.
pub trait Dns: Send + Sync + 'static {
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, DnsError>>;

    /// TXT records, the parts of each put together.
    fn texts<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<String>, DnsError>>;
}

/// The resolvers that this machine names.
#[derive(Default)]
pub struct SystemDns {
    /// Built at the first lookup, because it wants a running reactor.
    resolver: OnceCell<TokioResolver>,
}

impl SystemDns {
    async fn resolver(&self) -> Result<&TokioResolver, DnsError> {
        let build = || async { TokioResolver::builder_tokio()?.build() };
        self.resolver.get_or_try_init(build).await.map_err(|_| DnsError)
    }
}

impl Dns for SystemDns {
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, DnsError>> {
        Box::pin(async move {
            if is_localhost(name) {
                return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
            }
            match self.resolver().await?.lookup_ip(rooted(name)).await {
                Ok(found) => Ok(found.iter().collect()),
                Err(error) => nothing(&error),
            }
        })
    }

    fn texts<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<String>, DnsError>> {
        Box::pin(async move {
            match self.resolver().await?.txt_lookup(rooted(name)).await {
                Ok(found) => Ok(found.answers().iter().filter_map(|record| text(&record.data)).collect()),
                Err(error) => nothing(&error),
            }
        })
    }
}

fn text(data: &RData) -> Option<String> {
    match data {
        RData::TXT(text) => String::from_utf8(text.txt_data.concat()).ok(),
        _ => None,
    }
}

fn nothing<T>(error: &NetError) -> Result<Vec<T>, DnsError> {
    if error.is_no_records_found() || error.is_nx_domain() { Ok(Vec::new()) } else { Err(DnsError) }
}

/// Adds the final dot, so that the resolver tries no search domain of this machine: `pds` is not
/// `pds.default.svc.cluster.local`.
fn rooted(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashMap;
    use std::net::IpAddr;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use futures_util::future::BoxFuture;
    use hickory_resolver::TokioResolver;
    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    use tokio::net::UdpSocket;

    use super::{Dns, DnsError, SystemDns};

    type Texts = Result<Vec<String>, DnsError>;

    /// A DNS in memory. Of several answers for one name each question takes the next, and the last stays.
    #[derive(Clone, Default)]
    pub struct FakeDns {
        addresses: Arc<Mutex<HashMap<String, Vec<Vec<IpAddr>>>>>,
        texts: Arc<Mutex<HashMap<String, Texts>>>,
        asked: Arc<AtomicUsize>,
    }

    impl FakeDns {
        pub fn with_addresses(self, name: &str, answers: &[&[&str]]) -> Self {
            let answers = answers.iter().map(|some| some.iter().map(|text| text.parse().unwrap()).collect()).collect();
            self.addresses.lock().unwrap().insert(name.to_owned(), answers);
            self
        }

        pub fn set_texts(&self, name: &str, texts: Result<&[&str], DnsError>) {
            let texts = texts.map(|texts| texts.iter().map(|text| (*text).to_owned()).collect());
            self.texts.lock().unwrap().insert(name.to_owned(), texts);
        }

        pub fn asked(&self) -> usize {
            self.asked.load(Ordering::SeqCst)
        }
    }

    impl Dns for FakeDns {
        fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, DnsError>> {
            Box::pin(async move {
                self.asked.fetch_add(1, Ordering::SeqCst);
                let mut known = self.addresses.lock().unwrap();
                let Some(answers) = known.get_mut(name) else { return Ok(Vec::new()) };
                Ok(if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() })
            })
        }

        fn texts<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<String>, DnsError>> {
            Box::pin(async move {
                self.asked.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                self.texts.lock().unwrap().get(name).cloned().unwrap_or(Ok(Vec::new()))
            })
        }
    }

    /// A name server with one TXT record of two parts for `_atproto.a.test`, and nothing else.
    async fn name_server() -> u16 {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut question = [0; 512];
            loop {
                let (length, from) = socket.recv_from(&mut question).await.unwrap();
                // The name ends with a zero byte, and type and class follow (RFC 1035 section 4.1.2).
                let end = 12 + question[12..length].iter().position(|byte| *byte == 0).unwrap() + 5;
                let known = question[12..end] == *b"\x08_atproto\x01a\x04test\0\0\x10\0\x01";
                let mut answer = question[..2].to_vec();
                answer.extend(if known { [0x81, 0x80] } else { [0x81, 0x83] });
                answer.extend([0, 1, 0, u8::from(known), 0, 0, 0, 0]);
                answer.extend(&question[12..end]);
                if known {
                    let text = b"\x08did=did:\x05plc:x";
                    answer.extend([0xc0, 0x0c, 0, 16, 0, 1, 0, 0, 0, 60, 0, u8::try_from(text.len()).unwrap()]);
                    answer.extend(text);
                }
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        port
    }

    #[tokio::test]
    async fn texts_come_from_a_name_server_put_together_and_a_name_without_any_has_none() {
        let mut connection = ConnectionConfig::udp();
        connection.port = name_server().await;
        let server = NameServerConfig::new("127.0.0.1".parse().unwrap(), true, vec![connection]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build().unwrap();
        let dns = SystemDns { resolver: resolver.into() };
        assert_eq!(dns.texts("_atproto.a.test").await, Ok(vec!["did=did:plc:x".to_owned()]));
        assert_eq!(dns.texts("_atproto.b.test").await, Ok(Vec::new()));
    }
}
