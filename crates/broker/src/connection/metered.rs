//! What only some connections have: rates to keep, a mount point, a place among the connections of a user.
//!
//! A connection without any of it pays for one pointer. Deliberately absent: the arithmetic; see `rates`.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use martlet_codec::{Frame, PropsBuf, Publish, ReasonCode};
use martlet_session::Mount;
use martlet_storage::Timestamp;
use martlet_transport::ByteStream;
use tokio::time::Sleep;

use super::{Connection, End, Violation, driver::Flow};
use crate::{
    config::{Config, RateExceeded},
    counters::Limit,
    listen::Terms,
    rates::{Meter, Scope, Wait},
    users::UserPlace,
    work::Work,
};

/// What only some connections have.
#[derive(Default)]
pub(super) struct Extras {
    meter: Option<Meter>,
    /// Until when output waits.
    output_waits: Option<Pin<Box<Sleep>>>,
    mount: Option<Mount>,
    /// Given back when the connection lets go of its session.
    _user: Option<UserPlace>,
}

impl Extras {
    /// `None` for most.
    pub(super) fn new(
        config: &Config,
        terms: &Terms,
        user: Option<UserPlace>,
    ) -> Option<Box<Self>> {
        let own = Scope::new(Limit::RateClient, &config.rates.client);
        let shared = user.as_ref().and_then(|user| user.scope.clone());
        let all = terms.scope.clone();
        let meter = Meter::new(
            own.into_iter().chain(shared).chain(all),
            config.rates.exceeded,
        );
        let mount = terms.mount.clone();
        (meter.is_some() || mount.is_some() || user.is_some()).then(|| {
            Box::new(Self {
                meter,
                output_waits: None,
                mount,
                _user: user,
            })
        })
    }
}

impl<S: ByteStream> Connection<S> {
    /// Where the client's topics are, if it has a place of its own.
    pub(super) fn mount(&self) -> Option<&Mount> {
        self.extras.as_ref()?.mount.as_ref()
    }

    /// A PUBLISH of a client that may have a mount point.
    #[cold]
    pub(super) fn accept_special(
        &mut self,
        publish: &Publish<'_>,
        work: &mut Work,
        now: Timestamp,
    ) -> Result<Flow, End> {
        let Some(mount) = self.mount() else {
            return self.accept_publish(publish, work, now);
        };
        let topic = mount.full(publish.topic);
        let props = publish
            .props
            .response_topic()
            .map(|_| mount.full_props(publish.props));
        let publish = Publish {
            topic: &topic,
            props: props.as_ref().map_or(publish.props, PropsBuf::as_props),
            ..*publish
        };
        self.accept_publish(&publish, work, now)
    }

    /// Whether what comes in is counted.
    pub(super) fn meters_input(&self) -> bool {
        let meter = self
            .extras
            .as_ref()
            .and_then(|extras| extras.meter.as_ref());
        meter.is_some_and(Meter::has_input)
    }

    /// Whether what goes out is counted.
    pub(super) fn meters_output(&self) -> bool {
        let meter = self
            .extras
            .as_ref()
            .and_then(|extras| extras.meter.as_ref());
        meter.is_some_and(Meter::has_output)
    }

    /// Counts a packet from the client. Returns whether it has to wait: then it was not counted, and a pause has begun.
    pub(super) fn holds_back(&mut self, frame: Frame<'_>, now: Timestamp) -> Result<bool, End> {
        let meter = self
            .extras
            .as_ref()
            .and_then(|extras| extras.meter.as_ref());
        let Some(meter) = meter else {
            return Ok(false);
        };
        let Err(wait) = meter.take_in(frame.first >> 4 == 3, frame.len, now) else {
            return Ok(false);
        };
        self.core.counters.limit(wait.limit);
        if meter.exceeded == RateExceeded::Disconnect {
            let text = format!("more {} in a second than {}", wait.what, key(wait, "in"));
            return Err(Violation::new(ReasonCode::MessageRateTooHigh, text).into());
        }
        if meter.tells() {
            self.tell(wait, "in");
        }
        self.start_pause_of(Duration::from_millis(wait.millis));
        Ok(true)
    }

    /// How many bytes of the output may be written now; pending while a rate holds it back.
    pub(super) fn poll_allowance(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let now = self.core.clock.now();
        let Some(extras) = &mut self.extras else {
            return Poll::Ready(usize::MAX);
        };
        let Some(meter) = &mut extras.meter else {
            return Poll::Ready(usize::MAX);
        };
        if let Some(sleep) = &mut extras.output_waits {
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            extras.output_waits = None;
        }
        let wait = match meter.let_out(&self.lane.chunk, now) {
            Ok(bytes) => return Poll::Ready(bytes),
            Err(wait) => wait,
        };
        let mut sleep = Box::pin(tokio::time::sleep(Duration::from_millis(wait.millis)));
        // It is longer than nothing, so this only leaves the waker there.
        let over = sleep.as_mut().poll(cx).is_ready();
        extras.output_waits = (!over).then_some(sleep);
        let tells = meter.tells();
        self.core.counters.limit(wait.limit);
        if tells {
            self.tell(wait, "out");
        }
        if over {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    pub(super) fn metered_out(&mut self, bytes: usize) {
        if let Some(meter) = self
            .extras
            .as_mut()
            .and_then(|extras| extras.meter.as_mut())
        {
            meter.wrote(bytes);
        }
    }

    /// Exchanges what the meter has let out of the chunk in place, with the chunk.
    pub(super) fn swap_admitted(&mut self, admitted: &mut usize) {
        let extras = self.extras.as_mut();
        if let Some(meter) = extras.and_then(|extras| extras.meter.as_mut()) {
            meter.swap_admitted(admitted);
        }
    }

    /// Says once that the client is slowed down.
    #[cold]
    fn tell(&self, wait: Wait, direction: &str) {
        let (client, key) = (&*self.session.client_id, key(wait, direction));
        tracing::warn!(
            event = "rate_exceeded",
            client,
            peer = &*self.identity.origin.peer,
            user = self.identity.username.as_deref().unwrap_or_default(),
            listener = &*self.identity.origin.listener,
            key,
            "Client {client} is slowed down: {key}"
        );
    }
}

/// The key of a rate.
fn key(wait: Wait, direction: &str) -> String {
    format!("{}.{}_{direction}", wait.limit.name(), wait.what)
}

/// Who a client is, as far as bans are concerned.
pub(super) fn name_of(username: Option<&Arc<str>>) -> Arc<str> {
    username.map_or_else(|| "".into(), Arc::clone)
}
