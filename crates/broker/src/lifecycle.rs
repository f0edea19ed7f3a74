//! The life of a session: attached, detached, expired, ended; and its will.

use std::{sync::Arc, time::Duration};

use martlet_codec::ReasonCode;
use martlet_session::{Effects, Link, Mount};
use martlet_storage::{Lsn, SessionId, SessionRecord, StoreOp, Timestamp, WillRecord};
use martlet_sync::Planted;

use crate::{
    attachment::Attachment,
    bodies,
    core::Core,
    counters::Event,
    directory::Claim,
    hooks::{Decision, Identity},
    router::Availability,
    session::{Session, Will},
    timers::Due,
};

/// How long a newcomer waits for the old connection to let go before the session is taken from it. The old
/// task only has to finish the packet it is at; seconds are for a starved machine.
const TAKEOVER_PATIENCE: Duration = Duration::from_secs(5);

/// What a connection asks for when it attaches.
pub(crate) struct Attach {
    pub(crate) identity: Arc<Identity>,
    pub(crate) clean_start: bool,
    pub(crate) expiry_secs: u32,
    pub(crate) will: Option<Will>,
    /// Silence after which the client counts as gone; 0 for none.
    pub(crate) silence_max_millis: u32,
    pub(crate) mount: Option<Mount>,
}

/// A session that a connection owns; let go again if the handshake does not come to its end.
pub(crate) struct Attached {
    core: Arc<Core>,
    session: Option<Arc<Session>>,
    epoch: u64,
    /// What the session's generation was then.
    pub(crate) generation: u32,
    pub(crate) present: bool,
    /// CONNACK waits for this batch.
    pub(crate) lsn: Lsn,
}

impl Attached {
    /// The session and the number of this ownership; from now on it is the caller who lets go.
    pub(crate) fn into_parts(mut self) -> Option<(Arc<Session>, u64)> {
        Some((self.session.take()?, self.epoch))
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.core.detach(&session, self.epoch, true, None);
        }
    }
}

impl Core {
    /// Takes or makes the session of a client whose CONNECT was accepted. The old connection, if any, is told
    /// 0x8E and has let go when this returns [MQTT-3.1.4-3].
    ///
    /// Nothing is delivered before [`Core::go_online`], so that CONNACK leaves first [MQTT-3.2.0-1].
    pub(crate) async fn attach(self: &Arc<Self>, request: Attach) -> Result<Attached, ReasonCode> {
        let client_id = Arc::clone(&request.identity.client_id);
        let claim = self.directory.claim(&client_id).await;
        if let Some(old) = claim.session() {
            if Planted::TakeoverDropsGated.is_active() {
                self.deferred.discard(old.id);
            }
            self.take_over(&old).await;
        }
        let mut lsn = Lsn::ZERO;
        let mut existing = claim.session();
        if let Some(old) = &existing {
            let username = old.state.lock().username.clone();
            let expired = old
                .state
                .lock()
                .expires()
                .is_some_and(|at| at <= self.clock.now());
            // A session belongs to the user who made it: another user's client id must not open it.
            let usable = old.with_outbox(|outbox| outbox.alive) == Some(true);
            if request.clean_start || expired || !usable || username != request.identity.username {
                lsn = self.end_session(&claim, old);
                existing = None;
            }
        }
        let present = existing.is_some();
        if present {
            self.counters.event(Event::SessionResumed);
        }
        let session = match existing {
            Some(session) => session,
            None => {
                if self.directory.len() >= self.config.load().limits.sessions_max {
                    return Err(ReasonCode::QuotaExceeded);
                }
                self.counters.event(Event::SessionCreated);
                self.new_session(&request)
            }
        };
        let epoch = session
            .with_outbox(|outbox| {
                outbox.epoch += 1;
                outbox.attached = Some(Box::new(Attachment::new(request.silence_max_millis)));
                session.nudge();
                outbox.half.set_mount(request.mount);
                outbox.epoch
            })
            .ok_or(ReasonCode::UnspecifiedError)?;
        let overdue = {
            let mut state = session.state.lock();
            let is_due = state.deadlines.will_is_due(self.clock.now());
            is_due.then(|| state.will.take()).flatten()
        };
        if let Some(will) = overdue {
            // Its delay had passed before this client came back, which must not save it (3.1.3.2.2).
            self.fire_will(&session, &will);
        }
        let mut ops = Vec::new();
        let generation;
        if session.durable {
            ops.push(StoreOp::PutSession {
                session: session.id,
                record: record(
                    &session,
                    request.identity.username.as_deref(),
                    request.expiry_secs,
                    None,
                    true,
                ),
            });
        }
        {
            let mut state = session.state.lock();
            state.generation = state.generation.wrapping_add(1);
            state.expiry_secs = request.expiry_secs;
            state.set_expires(None);
            state.username.clone_from(&request.identity.username);
            self.timers.cancel(&mut state.deadlines);
            generation = state.generation;
            // A resumed session's pending will is suppressed; a fresh will replaces it [MQTT-3.1.3-9].
            let old = std::mem::replace(&mut state.will, request.will.map(Box::new));
            ops.extend(self.will_op(session.id, old.is_some(), state.will.as_deref(), None));
        }
        // Whoever has a CONNACK relies on its will as on its session, also where only the will is stored.
        lsn = lsn.max(self.submit(ops));
        session.identity.store(Some(request.identity));
        claim.set(Some(Arc::clone(&session)));
        self.judge_anew(&session);
        Ok(Attached {
            core: Arc::clone(self),
            session: Some(session),
            epoch,
            generation,
            present,
            lsn,
        })
    }

    /// Waits until everything up to `lsn` is committed.
    pub(crate) async fn committed(&self, lsn: Lsn) {
        while lsn > self.committer.watermark() {
            let moved = self.commits.changed.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if lsn <= self.committer.watermark() {
                return;
            }
            moved.await;
        }
    }

    fn new_session(&self, request: &Attach) -> Arc<Session> {
        let durable = self.durable && request.expiry_secs > 0;
        let client_id = Arc::clone(&request.identity.client_id);
        Arc::new(self.make_session(self.next_session_id(), client_id, durable))
    }

    /// An empty session.
    pub(crate) fn make_session(
        &self,
        id: SessionId,
        client_id: Arc<str>,
        durable: bool,
    ) -> Session {
        let half = martlet_session::Outbound::new(id, self.outbound_limits(), durable);
        let hash = self.directory.hash(&client_id);
        let queue_pressure = (self.config.load().limits.queued_messages_max / 4 * 3).max(1);
        let queue_pressure = u32::try_from(queue_pressure).unwrap_or(u32::MAX);
        Session::new(id, client_id, hash, durable, half, queue_pressure)
    }

    /// Starts deliveries: CONNACK, then what is in flight is sent again, then the queue [MQTT-3.2.0-1].
    pub(crate) fn go_online(&self, session: &Arc<Session>, epoch: u64, link: Link, connack: &[u8]) {
        let mut effects = Effects::default();
        let now = self.clock.now();
        session.with_outbox(|outbox| {
            let own = outbox.attached.as_mut();
            if let Some(own) = own.filter(|_| outbox.epoch == epoch) {
                own.out.put(connack);
                outbox.half.connect(now, link, &mut own.out, &mut effects);
                self.settle(session, outbox, &mut effects, now);
                session.set_availability(Availability::Online);
            }
        });
        self.after_alone(session, &mut effects);
    }

    /// Tells the connection that owns `old` and waits until it has let go.
    async fn take_over(&self, old: &Arc<Session>) {
        let let_go = old.with_outbox(|outbox| Some(outbox.attached.as_mut()?.let_go()));
        let Some(Some(let_go)) = let_go else {
            return;
        };
        let detached = let_go.notified();
        tokio::pin!(detached);
        detached.as_mut().enable();
        if !old.is_connected() {
            return;
        }
        self.counters.event(Event::SessionTakenOver);
        old.kick(
            ReasonCode::SessionTakenOver,
            "another client connected with this client id",
        );
        let waited = tokio::time::timeout(TAKEOVER_PATIENCE, detached.as_mut()).await;
        if waited.is_ok() || !old.is_connected() {
            return;
        }
        // The owner cannot be reached, or waits for a store that has stalled. What the end of its connection means for
        // will and session holds all the same, and its epoch is over, so it can do nothing more to the session.
        tracing::error!(
            event = "takeover_forced",
            client = &*old.client_id,
            "the old connection did not let go in time"
        );
        let epoch = old.with_outbox(|outbox| outbox.epoch);
        let forced = epoch.is_some_and(|epoch| self.detach(old, epoch, true, None));
        if !forced && old.is_connected() {
            // It is letting go right now, if slowly.
            detached.await;
        }
    }

    /// A connection lets go of its session. `with_will` tells whether the will is to be published; `expiry_secs`
    /// is what DISCONNECT changed the Session Expiry Interval to. Returns whether the connection still owned it.
    pub(crate) fn detach(
        &self,
        session: &Arc<Session>,
        epoch: u64,
        with_will: bool,
        expiry_secs: Option<u32>,
    ) -> bool {
        if disconnect_state(session, epoch) == Some(false) {
            return false;
        }
        let _leaving = Leaving(session);
        let now = self.clock.now();
        let mut fire = None;
        let mut will_op = None;
        let (ends, generation) = {
            let mut state = session.state.lock();
            state.generation = state.generation.wrapping_add(1);
            if let Some(secs) = expiry_secs {
                state.expiry_secs = secs;
            }
            state.inbound.shrink();
            if !with_will && state.will.take().is_some() {
                will_op = self.will_op(session.id, true, None, None);
            }
            self.timers.cancel(&mut state.deadlines);
            let ends = state.expiry_secs == 0;
            let lasts = state.expiry_secs != u32::MAX;
            let expires = lasts.then(|| now.plus_secs(state.expiry_secs));
            state.set_expires(expires);
            let state = &mut *state;
            if let Some(will) = &state.will {
                // The will is due at its delay or with the session, whichever comes first (3.1.3.2.2).
                let delay = will.delay_secs.min(state.expiry_secs);
                if delay == 0 || self.is_stopping() {
                    fire = state.will.take();
                } else {
                    let at = now.plus_secs(delay);
                    will_op = self.will_op(session.id, true, Some(will), Some(at));
                    let due = Due::Will {
                        session: Arc::downgrade(session),
                        generation: state.generation,
                    };
                    self.timers.set(&mut state.deadlines.will, at, due);
                }
            }
            if let (false, Some(expires)) = (ends, expires) {
                let due = Due::Expiry {
                    session: Arc::downgrade(session),
                    generation: state.generation,
                };
                self.timers.set(&mut state.deadlines.session, expires, due);
            }
            (ends, state.generation)
        };
        if let Some(will) = fire {
            self.fire_will(session, &will);
        }
        let poisoned = session.with_outbox(|_| ()).is_none();
        if ends || poisoned {
            self.submit(will_op.into_iter().collect());
            // The owner holds no claim; a newcomer that does ends the session itself if it must.
            if let Some(claim) = self.directory.try_claim(&session.client_id) {
                if claim
                    .session()
                    .is_some_and(|current| Arc::ptr_eq(&current, session))
                {
                    self.end_session(&claim, session);
                }
            } else {
                let mut state = session.state.lock();
                if state.generation == generation {
                    state.set_expires(Some(now));
                }
            }
        } else if session.durable {
            let record = {
                let state = session.state.lock();
                let username = state.username.as_deref();
                record(session, username, state.expiry_secs, state.expires(), false)
            };
            let put = StoreOp::PutSession {
                session: session.id,
                record,
            };
            self.submit(std::iter::once(put).chain(will_op).collect());
        }
        session.forget_identity();
        true
    }

    /// Ends a session for good: nothing is delivered any more, its subscriptions go, its will fires if it is still due.
    pub(crate) fn end_session(&self, claim: &Claim<'_>, session: &Arc<Session>) -> Lsn {
        session.with_outbox(|outbox| outbox.alive = false);
        session.set_availability(Availability::Offline);
        let (subscriptions, will) = {
            let mut state = session.state.lock();
            state.generation = state.generation.wrapping_add(1);
            self.timers.cancel(&mut state.deadlines);
            (std::mem::take(&mut state.subscriptions), state.will.take())
        };
        for filter in subscriptions.filters() {
            self.drop_subscription(session, filter);
        }
        claim.set(None);
        if let Some(will) = will {
            self.fire_will(session, &will);
        }
        self.counters.event(Event::SessionEnded);
        self.hooks.session_ended(&session.client_id);
        if session.durable && !Planted::DeadIncarnation.is_active() {
            self.submit(vec![StoreOp::DeleteSession {
                session: session.id,
            }])
        } else {
            Lsn::ZERO
        }
    }

    /// Publishes a will, if its publisher may still publish there. Its row is deleted in the batch that publishes it
    /// (rule 17).
    pub(crate) fn fire_will(&self, session: &Session, will: &Will) {
        let gone = Vec::from_iter(self.will_op(session.id, true, None, None));
        // A session that came out of the store and was not taken up again has no identity; its will was judged at CONNECT.
        if let Some(identity) = session.identity.load_full() {
            let access = self.access.load_full();
            let decision = access
                .authorizer
                .publish(&identity, &will.topic, will.qos, will.retain);
            // A decision that takes time was made at CONNECT as well; a will must not wait for a foreign service.
            if let Decision::Ready(false) = decision {
                tracing::warn!(
                    event = "will_denied",
                    client = &*session.client_id,
                    topic = &*will.topic,
                    "will not published: not authorized"
                );
                self.submit(gone);
                return;
            }
        }
        let message = will.message(session.id, self.clock.now());
        if self.hooks.will(&session.client_id, &message) {
            self.counters.event(Event::WillPublished);
            self.publish_message(&message, session.client_hash, gone);
        } else {
            self.submit(gone);
        }
    }

    /// What the store has to be told of the will of `session`: the new one and when it is `due`, or that there is none
    /// any more. Wills of sessions that are not stored are stored as well, so that they fire after a crash (rule 18).
    pub(crate) fn will_op(
        &self,
        session: SessionId,
        was_there: bool,
        will: Option<&Will>,
        due: Option<Timestamp>,
    ) -> Option<StoreOp> {
        if !self.durable {
            return None;
        }
        match will {
            Some(will) => Some(StoreOp::PutWill {
                session,
                will: WillRecord {
                    message: will.message(session, self.clock.now()),
                    due,
                    delay_secs: will.delay_secs,
                },
            }),
            None => was_there.then_some(StoreOp::DeleteWill { session }),
        }
    }

    /// A delayed will or an expiry whose time has come, unless something happened to the session since.
    pub(crate) fn on_due(&self, due: &Due) {
        match due {
            Due::Will {
                session,
                generation,
            } => {
                let Some(session) = session.upgrade() else {
                    return;
                };
                // A client that is just coming back has the turn and looks at the will itself. Without the turn the row of its
                // next will could be stored before the row of this one is deleted, and go with it.
                let Some(_claim) = self.directory.try_claim(&session.client_id) else {
                    return;
                };
                let will = {
                    let mut state = session.state.lock();
                    if state.generation == *generation {
                        state.will.take()
                    } else {
                        None
                    }
                };
                if let Some(will) = will {
                    self.fire_will(&session, &will);
                    session.forget_identity();
                }
            }
            Due::Expiry {
                session,
                generation,
            } => {
                let Some(session) = session.upgrade() else {
                    return;
                };
                if session.state.lock().generation != *generation {
                    return;
                }
                // Somebody has the turn: a client is just coming back, or the session is ending already.
                let Some(claim) = self.directory.try_claim(&session.client_id) else {
                    return;
                };
                if session.state.lock().generation == *generation && !session.is_connected() {
                    tracing::debug!(event = "session_expired", client = &*session.client_id);
                    self.counters.event(Event::SessionExpired);
                    self.end_session(&claim, &session);
                }
            }
            Due::Visit { session, epoch } => {
                if let Some(session) = session.upgrade() {
                    self.visit(&session, *epoch);
                }
            }
        }
    }
}

pub(crate) fn record(
    session: &Session,
    username: Option<&str>,
    expiry_interval_secs: u32,
    expires: Option<Timestamp>,
    connected: bool,
) -> SessionRecord {
    SessionRecord {
        client_id: Arc::clone(&session.client_id),
        username: username.map(Into::into),
        expiry_interval_secs,
        expires,
        connected,
    }
}

/// A connection that is letting go; the end of it lets a newcomer see the session, whose will, expiry and queue are settled.
struct Leaving<'a>(&'a Session);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.with_outbox(|outbox| {
            outbox.attached = None;
        });
    }
}

/// Takes the outbox offline; `Some(false)` when `epoch` is no longer the owner, or is letting go already.
fn disconnect_state(session: &Session, epoch: u64) -> Option<bool> {
    session.with_outbox(|outbox| {
        let Some(own) = outbox.owned_by(epoch).filter(|own| !own.leaving) else {
            return false;
        };
        own.leave();
        session.set_availability(Availability::Offline);
        outbox.epoch += 1;
        session.nudge();
        outbox.half.disconnect();
        bodies::spill(&mut outbox.half);
        outbox.half.shrink();
        true
    })
}
