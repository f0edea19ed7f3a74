//! The certificate that `[acme]` asks for: there before the listeners open, renewed behind them.

use std::error::Error;

use martlet_acme::{AcmeError, Challenge, Keeper, Settings};
use martlet_cli::config::{Acme, AcmeChallenge};

/// Obtains the certificate if there is none, and goes on looking after it.
///
/// # Errors
/// There is none, and none can be had.
pub(crate) async fn look_after(acme: &Acme) -> Result<(), Box<dyn Error>> {
    let (true, Some(listen)) = (acme.is_wanted(), acme.listen()) else {
        return Ok(());
    };
    let failed = |error: AcmeError| format!("error: [acme]: {error}");
    let keeper = Keeper::new(Settings {
        directory: acme.directory.clone(),
        root: (!acme.ca.as_os_str().is_empty()).then(|| acme.ca.clone()),
        domains: acme.domains.clone(),
        contact: acme.contact.clone(),
        agrees_to_terms: acme.agree_to_terms,
        challenge: match acme.challenge {
            AcmeChallenge::Http01 => Challenge::Http01,
            AcmeChallenge::TlsAlpn01 => Challenge::TlsAlpn01,
        },
        listen,
        folder: acme.path.clone(),
    })
    .map_err(failed)?;
    if !keeper.has_certificate() {
        tracing::info!(
            domains = acme.domains.join(", "),
            "asking for the first certificate"
        );
        keeper.renew().await.map_err(failed)?;
    }
    tokio::spawn(async move { keeper.keep().await });
    Ok(())
}
