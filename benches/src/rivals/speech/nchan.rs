//! nginx with nchan: subscribing is opening `/all`, publishing is writing to `/pub`, a pair member does both at `/pair`.

use super::{Heard, Speech, To, Who};

pub(super) struct Nchan {
    who: Who,
}

impl Nchan {
    pub(super) fn new(who: Who) -> Self {
        Self { who }
    }
}

impl Speech for Nchan {
    fn path(&self) -> String {
        match self.who {
            Who::Subscriber(_) => "/all".to_owned(),
            Who::Publisher => "/pub".to_owned(),
            Who::Pair(number) => format!("/pair?me=p{number}&peer=p{}", Who::peer(number)),
        }
    }

    fn is_text(&self) -> bool {
        true
    }

    fn opened(&mut self, heard: &mut Heard) {
        heard.ready = true;
    }

    fn message(&mut self, bytes: &[u8], heard: &mut Heard) {
        // A publisher is told how many it reached, where that is configured.
        if self.who != Who::Publisher {
            heard.body(bytes);
        }
    }

    fn publish(&mut self, _to: To, body: &[u8], say: &mut Vec<Vec<u8>>) {
        say.push(body.to_vec());
    }
}

#[cfg(test)]
mod tests {
    use super::super::{torture, *};
    use super::*;

    #[test]
    fn the_path_is_the_channel() {
        assert_eq!(Nchan::new(Who::Pair(4)).path(), "/pair?me=p4&peer=p5");
        assert_eq!(Nchan::new(Who::Subscriber(4)).path(), "/all");
        let body = Stamp { job: 9, due_ns: 2 }.encode(30);
        let mut heard = Heard::default();
        let mut nchan = Nchan::new(Who::Subscriber(0));
        nchan.opened(&mut heard);
        nchan.message(&body, &mut heard);
        assert!(heard.ready && heard.stamps.len() == 1);
        torture(|| Box::new(Nchan::new(Who::Subscriber(0))), &body);
    }
}
