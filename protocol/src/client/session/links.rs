//! Connections and tokens: when to connect, where, with what, and what a close means.

use super::Session;
use crate::client::types::{Effect, Now, Phase};
use crate::codes::{CloseCode, ReconnectPolicy};
use crate::frame::ClientFrame;
use crate::pb;

/// A connection is open within this, milliseconds.
const OPEN_MS: u64 = 10_000;
/// Hello is answered within this, milliseconds.
const WELCOME_MS: u64 = 10_000;
/// A token is renewed this long before it expires, milliseconds (or at half of what is left).
const TOKEN_MARGIN_MS: u64 = 60_000;
/// A token that could not be renewed in band is tried again after at least this, milliseconds.
const TOKEN_RETRY_MS: u64 = 1_000;
/// Redirects followed without a Welcome between them; whoever is asked then is asked to serve.
pub(super) const REDIRECTS_MAX: u32 = 4;
/// Displaced twice within this: someone else keeps the device, milliseconds.
const DISPLACED_AGAIN_MS: u64 = 30_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkState {
    Opening,
    Hello,
    Welcomed,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: u32,
    pub(super) state: LinkState,
    /// Its Hello showed a resume token: only then can it be recovered.
    pub(super) resumes: bool,
    deadline_ms: u64,
    /// Everything below was on the disk when its Hello was made; the server sends what is above.
    pub(super) said_next: u64,
}

/// The token in use.
#[derive(Debug)]
pub(super) struct Token {
    text: String,
    pub(super) expires_at_ms: u64,
    /// Sessions that it has opened: a used one that is refused is replaced once.
    hellos: u32,
}

impl Session {
    // ---- what the driver reports ----

    /// A connection is open.
    pub fn handle_opened(&mut self, link: u32, now: Now) {
        let next = self.inbox.line.persisted();
        let resume_token = self.disk.resume_token();
        let resumes = resume_token.is_some();
        let last_offset = resume_token.as_ref().and_then(|_| next.checked_sub(1));
        let Some(token) = self.token.as_mut() else {
            return;
        };
        let hello = pb::Hello {
            token: token.text.clone(),
            device: self.config.device.to_string(),
            resume_token: resume_token.unwrap_or_default(),
            last_offset,
            client: self.config.client.clone(),
            live_only: self.config.live_only,
            redirect_never: self.stays || self.redirects >= REDIRECTS_MAX,
            heartbeat_ms: self.config.heartbeat_ms,
            ..pb::Hello::default()
        };
        token.hellos += 1;
        let Some(link) = self.link_of(link) else {
            return;
        };
        link.state = LinkState::Hello;
        link.resumes = resumes;
        link.said_next = next;
        link.deadline_ms = now.ms + WELCOME_MS;
        let id = link.id;
        self.transmit_on(id, ClientFrame::Hello(hello));
        self.finish(now);
    }

    /// A connection is gone, or was never made (1006).
    pub fn handle_closed(&mut self, link: u32, code: u16, reason: &str, now: Now) {
        if self.is_next(link) {
            self.next_link = None;
        } else if self.link_of(link).is_none() {
            return;
        } else if self.next_link.is_some() {
            self.promote(now);
        } else {
            self.lost(code, reason, now);
        }
        self.finish(now);
    }

    /// A token was had.
    pub fn handle_token(&mut self, text: String, expires_at_ms: u64, now: Now) {
        self.fetching_token = false;
        self.token = Some(Token {
            text: text.clone(),
            expires_at_ms,
            hellos: 0,
        });
        if self.welcomed() {
            if let Some(token) = self.token.as_mut() {
                token.hellos = 1;
            }
            self.transmit(ClientFrame::RefreshToken(pb::RefreshToken { token: text }));
            self.plan_refresh(now);
        } else if self.wanted && self.link.is_none() && self.retry_at_ms.is_none() {
            self.connect(now);
        }
        self.finish(now);
    }

    /// No token could be had; `refused`: and none will be.
    pub fn handle_token_failed(&mut self, refused: bool, text: &str, now: Now) {
        self.fetching_token = false;
        if self.welcomed() {
            let wait_ms = self.backoff.next_ms(TOKEN_RETRY_MS, &mut self.chance);
            self.refresh_at_ms = Some(now.ms + wait_ms);
        } else if refused {
            self.refuse(CloseCode::BadToken.number(), text);
        } else if self.wanted {
            let wait_ms = self.backoff.next_ms(0, &mut self.chance);
            self.wait_then_connect(wait_ms, now);
        }
        self.finish(now);
    }

    // ---- links ----

    pub(super) fn welcomed(&self) -> bool {
        let link = self.link.as_ref();
        link.is_some_and(|link| link.state == LinkState::Welcomed)
    }

    pub(super) fn link_of(&mut self, id: u32) -> Option<&mut Link> {
        let links = [self.link.as_mut(), self.next_link.as_mut()];
        links.into_iter().flatten().find(|link| link.id == id)
    }

    pub(super) fn is_next(&self, id: u32) -> bool {
        self.next_link.as_ref().is_some_and(|link| link.id == id)
    }

    /// Id and deadline of a link that is not welcomed yet.
    pub(super) fn link_deadline(&self) -> Option<(u32, u64)> {
        let link = self.link.as_ref();
        link.filter(|link| link.state != LinkState::Welcomed)
            .map(|link| (link.id, link.deadline_ms))
    }

    pub(super) fn next_deadline(&self) -> Option<(u32, u64)> {
        let link = self.next_link.as_ref();
        link.map(|link| (link.id, link.deadline_ms))
    }

    pub(super) fn connect(&mut self, now: Now) {
        if !self.wanted || self.link.is_some() {
            return;
        }
        self.set_phase(Phase::Connecting);
        // A fresh one is shown once whatever our clock says: before the first Welcome that may be far
        // ahead of the server's, and the server is the judge.
        let server_ms = self.server_ms(now);
        if self
            .token
            .as_ref()
            .is_none_or(|token| token.hellos > 0 && token.expires_at_ms <= server_ms)
        {
            self.token = None;
            self.fetch_token();
            return;
        }
        self.link = Some(self.open(now));
    }

    fn open(&mut self, now: Now) -> Link {
        self.last_link += 1;
        let (id, url) = (self.last_link, self.url.clone());
        self.effects.push_back(Effect::Open { link: id, url });
        Link {
            id,
            state: LinkState::Opening,
            resumes: false,
            deadline_ms: now.ms + OPEN_MS,
            said_next: 0,
        }
    }

    /// May a Redirect or Relocate name this address? One of our own scheme, so that TLS stays TLS.
    pub(super) fn accepts_url(&self, url: &str) -> bool {
        let ours = self.config.url.split_once("://");
        let theirs = url.split_once("://");
        matches!((ours, theirs), (Some((a, _)), Some((b, rest))) if a == b && !rest.is_empty())
    }

    /// Relocate's slot has come: the new session is opened before the old one is closed.
    pub(super) fn open_next(&mut self, now: Now) {
        let Some((_, url)) = self.relocate.take() else {
            return;
        };
        if self.next_link.is_some() || !self.welcomed() {
            return;
        }
        if self.accepts_url(&url) {
            self.url = url;
        }
        self.next_link = Some(self.open(now));
    }

    /// The next link takes over; the session goes on there.
    pub(super) fn promote(&mut self, now: Now) {
        let next = self.next_link.take();
        self.drop_links();
        self.link = next;
        self.set_phase(Phase::Connecting);
        if let Some(link) = self.link.as_mut()
            && link.state == LinkState::Opening
        {
            link.deadline_ms = now.ms + OPEN_MS;
        }
    }

    /// Closes a link that we no longer believe in, without waiting for the socket to agree.
    pub(super) fn abandon(&mut self, id: u32, now: Now, reason: &'static str) {
        self.close(id, CloseCode::ProtocolError.number(), reason);
        self.handle_closed(id, 1006, reason, now);
    }

    pub(super) fn drop_links(&mut self) {
        self.link = None;
        self.next_link = None;
        self.relocate = None;
        self.live = false;
        self.ping_at_ms = None;
        self.pong_by_ms = None;
        self.stable_at_ms = None;
        self.refresh_at_ms = None;
        self.disk.disconnected();
        self.typing_at_ms.clear();
        self.outbox.disconnected();
        self.sync.disconnected();
        self.inbox.disconnected();
        self.receipts.disconnected();
    }

    fn lost(&mut self, code: u16, reason: &str, now: Now) {
        self.drop_links();
        self.url = self.config.url.clone();
        self.stays |= self.redirects > 0;
        self.redirects = 0;
        let retry_after_ms = std::mem::take(&mut self.retry_after_ms);
        let problem = std::mem::take(&mut self.last_problem);
        if !self.wanted {
            return;
        }
        if code == CloseCode::Displaced.number() && self.displaced_again(now) {
            return;
        }
        match ReconnectPolicy::of_close(code) {
            ReconnectPolicy::Never => {
                let used = self.token.take().is_some_and(|token| token.hellos > 1);
                if code != CloseCode::BadToken.number() || !used {
                    return self.refuse(code, if reason.is_empty() { &problem } else { reason });
                }
                let wait_ms = self.backoff.next_ms(0, &mut self.chance);
                self.wait_then_connect(wait_ms, now);
            }
            ReconnectPolicy::AfterNewToken => {
                self.token = None;
                let wait_ms = self.backoff.at_once_ms(&mut self.chance);
                self.wait_then_connect(wait_ms, now);
            }
            ReconnectPolicy::AtOnce => {
                let wait_ms = self.backoff.at_once_ms(&mut self.chance);
                self.wait_then_connect(wait_ms, now);
            }
            ReconnectPolicy::BackOff => {
                let wait_ms = self.backoff.next_ms(retry_after_ms, &mut self.chance);
                self.wait_then_connect(wait_ms, now);
            }
        }
    }

    fn displaced_again(&mut self, now: Now) -> bool {
        let last = self.displaced_at_ms.replace(now.ms);
        if last.is_none_or(|last| now.ms > last + DISPLACED_AGAIN_MS) {
            return false;
        }
        self.wanted = false;
        self.set_phase(Phase::Displaced);
        true
    }

    fn refuse(&mut self, code: u16, text: &str) {
        self.wanted = false;
        let text = text.to_owned();
        self.set_phase(Phase::Refused { code, text });
    }

    pub(super) fn wait_then_connect(&mut self, wait_ms: u64, now: Now) {
        if wait_ms == 0 {
            return self.connect(now);
        }
        let retry_at_ms = now.ms + wait_ms;
        self.retry_at_ms = Some(retry_at_ms);
        self.set_phase(Phase::Waiting { retry_at_ms });
    }

    // ---- token ----

    pub(super) fn fetch_token(&mut self) {
        if !self.fetching_token {
            self.fetching_token = true;
            self.effects.push_back(Effect::FetchToken);
        }
    }

    pub(super) fn plan_refresh(&mut self, now: Now) {
        let server_ms = self.server_ms(now);
        let Some(token) = &self.token else { return };
        let left = token.expires_at_ms.saturating_sub(server_ms);
        let wait_ms = left - TOKEN_MARGIN_MS.min(left / 2);
        self.refresh_at_ms = Some(now.ms.saturating_add(wait_ms.max(TOKEN_RETRY_MS)));
    }
}
