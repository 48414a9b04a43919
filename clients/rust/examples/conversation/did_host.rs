//! The document of a `did:web:localhost%3A<port>`, served until the process ends. A development server resolves such a
//! name; no other does.

use rookery_client::protocol::identity::PublicKey;
use rookery_client::protocol::types::Did;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

pub async fn serve(key: &PublicKey) -> Result<Did, Box<dyn std::error::Error>> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let did = format!("did:web:localhost%3A{}", listener.local_addr()?.port());
    let document = serde_json::json!({
        "@context": ["https://www.w3.org/ns/did/v1"],
        "id": did,
        "verificationMethod": [{
            "id": format!("{did}#atproto"), "type": "Multikey", "controller": did, "publicKeyMultibase": key.multikey(),
        }],
    });
    let answer = document.to_string();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
        answer.len()
    );
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            // Whatever is asked for, this is all there is.
            let mut request = [0; 4096];
            if connection.read(&mut request).await.is_ok() {
                let _ = connection.write_all(answer.as_bytes()).await;
            }
        }
    });
    Ok(Did::parse(&did)?)
}
