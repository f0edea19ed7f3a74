//! One order, from the account to the chain.

use std::{path::PathBuf, time::Duration};

use instant_acme::{
    Account, AccountBuilder, AccountCredentials, AuthorizationStatus, Error, Identifier,
    NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::{AcmeError, ORDER_TIME_MAX, Settings, challenge::Door, files};

/// How long the authority may look, and then make the certificate. Several places look, and each may try again.
const RETRIES: RetryPolicy = RetryPolicy::new().timeout(Duration::from_secs(90));

/// The account at one authority.
#[derive(Serialize, Deserialize)]
struct Saved {
    directory: String,
    credentials: AccountCredentials,
}

/// Obtains a certificate; returns its chain and key in PEM.
pub(crate) async fn obtain(settings: &Settings) -> Result<String, AcmeError> {
    // The HTTP client has no deadline of its own.
    timeout(ORDER_TIME_MAX, order(settings))
        .await
        .unwrap_or_else(|_| {
            Err(AcmeError::Authority {
                directory: settings.directory.clone(),
                what: "a certificate",
                reason: format!("nothing came of it in {} s", ORDER_TIME_MAX.as_secs()),
            })
        })
}

async fn order(settings: &Settings) -> Result<String, AcmeError> {
    let asked = |what| move |error: Error| refused(settings, what, &error);
    let domains: Vec<Identifier> = settings
        .domains
        .iter()
        .map(|domain| Identifier::Dns(domain.clone()))
        .collect();
    let wanted = NewOrder::new(&domains);
    let kept = match kept_account(settings).await? {
        Some(account) => match account.new_order(&wanted).await {
            Err(error) if is_forgotten(&error) => None,
            ordered => Some(ordered),
        },
        None => None,
    };
    let ordered = match kept {
        Some(ordered) => ordered,
        None => new_account(settings).await?.new_order(&wanted).await,
    };
    let mut order = ordered.map_err(asked("a new order"))?;
    // Nobody needs to come where everything was proved a short time ago.
    if order.state().status == OrderStatus::Pending {
        let door = Door::open(settings.challenge, settings.listen).await?;
        prove(settings, &mut order, &door).await?;
        let status = order
            .poll_ready(&RETRIES)
            .await
            .map_err(asked("the proof"))?;
        if status != OrderStatus::Ready {
            return Err(why_refused(settings, &mut order).await);
        }
    }
    let key = order.finalize().await.map_err(asked("the certificate"))?;
    let chain = order
        .poll_certificate(&RETRIES)
        .await
        .map_err(asked("the certificate"))?;
    Ok(format!("{chain}\n{key}"))
}

fn refused(settings: &Settings, what: &'static str, error: &Error) -> AcmeError {
    AcmeError::Authority {
        directory: settings.directory.clone(),
        what,
        reason: error.to_string(),
    }
}

fn builder(settings: &Settings) -> Result<AccountBuilder, AcmeError> {
    match &settings.root {
        Some(path) => Account::builder_with_root(path),
        None => Account::builder(),
    }
    .map_err(|error| refused(settings, "a connection", &error))
}

fn account_file(settings: &Settings) -> PathBuf {
    settings.folder.join("account.json")
}

/// The account that was used before. One that cannot be read, or is another authority's, is none.
async fn kept_account(settings: &Settings) -> Result<Option<Account>, AcmeError> {
    let saved = files::read(&account_file(settings))?
        .and_then(|bytes| serde_json::from_slice::<Saved>(&bytes).ok())
        .filter(|saved| saved.directory == settings.directory);
    let Some(saved) = saved else {
        return Ok(None);
    };
    builder(settings)?
        .from_credentials(saved.credentials)
        .await
        .map(Some)
        .map_err(|error| refused(settings, "the account", &error))
}

/// Whether the authority does not know the account any more (RFC 8555, section 6.7), as one that was set up anew.
fn is_forgotten(error: &Error) -> bool {
    let Error::Api(problem) = error else {
        return false;
    };
    problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:accountDoesNotExist")
}

/// Makes an account, and keeps it.
async fn new_account(settings: &Settings) -> Result<Account, AcmeError> {
    let contact: Vec<&str> = settings.contact.iter().map(String::as_str).collect();
    let wanted = NewAccount {
        contact: &contact,
        terms_of_service_agreed: settings.agrees_to_terms,
        only_return_existing: false,
    };
    let (account, credentials) = builder(settings)?
        .create(&wanted, settings.directory.clone(), None)
        .await
        .map_err(|error| refused(settings, "an account", &error))?;
    let saved = Saved {
        directory: settings.directory.clone(),
        credentials,
    };
    let text =
        serde_json::to_vec_pretty(&saved).map_err(|error| AcmeError::Crypto(error.to_string()))?;
    files::replace(&account_file(settings), &text)?;
    Ok(account)
}

/// Answers for every name that is not proved yet, and says so.
async fn prove(settings: &Settings, order: &mut Order, door: &Door) -> Result<(), AcmeError> {
    let asked = |error: Error| refused(settings, "the proof", &error);
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(asked)?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let domain = authorization.identifier().to_string();
        let Some(mut challenge) = authorization.challenge(settings.challenge.kind()) else {
            return Err(AcmeError::Refused {
                directory: settings.directory.clone(),
                domain,
                reason: format!("the authority does not offer {}", settings.challenge.name()),
            });
        };
        let words = challenge.key_authorization();
        door.answer(settings.challenge, &domain, &challenge.token, &words)?;
        match challenge.set_ready().await {
            Ok(()) => {}
            // It has looked already, and did not like what it saw.
            Err(Error::Api(problem)) => {
                return Err(AcmeError::Refused {
                    directory: settings.directory.clone(),
                    domain,
                    reason: problem.to_string(),
                });
            }
            Err(error) => return Err(asked(error)),
        }
    }
    Ok(())
}

/// Which name was not believed, and why.
async fn why_refused(settings: &Settings, order: &mut Order) -> AcmeError {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let Ok(mut authorization) = authorization else {
            break;
        };
        let domain = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else {
            break;
        };
        let words = state
            .challenges
            .iter()
            .find_map(|challenge| challenge.error.as_ref());
        if let Some(words) = words {
            return AcmeError::Refused {
                directory: settings.directory.clone(),
                domain,
                reason: words.to_string(),
            };
        }
    }
    AcmeError::Authority {
        directory: settings.directory.clone(),
        what: "the proof",
        reason: "the order is invalid, without a reason".into(),
    }
}
