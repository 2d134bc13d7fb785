//! Which of the fields that were kept back a redirect of the request to its own path depends on.

/// Where an answer leads: its status and its `Location`.
pub type Led = (u16, Option<Vec<u8>>);

/// A series of requests, each with one more of the fields that were kept back. What changes by its presence
/// alone where the answer leads is found. Begin one when a request that leads to its own path
/// ([`super::Plan::leads_back`]) leads elsewhere once all is sent that the client sent. Ask as long as
/// [`Trial::next_fields`] says, one request at a time.
#[derive(Debug)]
pub struct Trial {
    /// What the route's requests carry anyway.
    known: Vec<String>,
    untried: std::vec::IntoIter<String>,
    /// Where the redirect led.
    led: Led,
    /// The field of the request that is under way; none is the first request, which has no field more.
    field: Option<String>,
    is_begun: bool,
    is_steady: bool,
    found: Vec<String>,
}

impl Trial {
    /// `known` are the fields that the route's requests carry, `untried` those to try
    /// ([`super::Plan::untried`]), `led` is where the redirect led.
    pub fn new(known: Vec<String>, untried: Vec<String>, led: Led) -> Self {
        let untried = untried.into_iter();
        let (field, found) = (None, Vec::new());
        Self { known, untried, led, field, is_begun: false, is_steady: false, found }
    }

    /// The fields ([`super::Plan::learned`]) with which to ask next.
    pub fn next_fields(&mut self) -> Option<Vec<String>> {
        if !self.is_begun {
            self.is_begun = true;
            return Some(self.known.clone());
        }
        // An answer that leads elsewhere each time depends on no field.
        self.field = self.untried.next().filter(|_| self.is_steady);
        let field = self.field.clone()?;
        Some(self.known.iter().cloned().chain([field]).collect())
    }

    /// Where the answer to that leads; none when there was no answer, which tells nothing.
    pub fn led(&mut self, led: Option<&Led>) {
        let is_same = led == Some(&self.led);
        match self.field.take() {
            None => self.is_steady = is_same,
            Some(field) if led.is_some() && !is_same => self.found.push(field),
            Some(_) => {}
        }
    }

    /// The fields that the redirect depends on. None when it depends on no one of them alone.
    pub fn found(self) -> Vec<String> {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back() -> Led {
        (307, Some(b"/a".to_vec()))
    }

    /// What the trial finds of an application that is asked with these fields beside `known`.
    fn found(by: impl Fn(&[&str]) -> Option<Led>) -> (Vec<String>, usize) {
        let untried = ["rsc", "next-url", "accept"].map(str::to_owned).to_vec();
        let mut trial = Trial::new(vec!["known".to_owned()], untried, back());
        let mut asked = 0;
        while let Some(learned) = trial.next_fields() {
            asked += 1;
            let learned: Vec<&str> = learned.iter().map(String::as_str).collect();
            assert_eq!(learned.first(), Some(&"known"));
            trial.led(by(learned.get(1..).expect("the rest")).as_ref());
        }
        (trial.found(), asked)
    }

    #[test]
    fn a_field_that_changes_where_the_answer_leads_is_found_and_others_are_not() {
        let page = |extra: &[&str]| Some(if extra == ["next-url"] { (200, None) } else { back() });
        assert_eq!(found(page), (vec!["next-url".to_owned()], 4));
    }

    #[test]
    fn a_request_that_fails_explains_nothing() {
        let fails = |extra: &[&str]| if extra == ["rsc"] { None } else { Some(back()) };
        assert_eq!(found(fails), (Vec::new(), 4));
    }

    #[test]
    fn of_an_answer_that_leads_elsewhere_each_time_no_field_is_tried() {
        assert_eq!(found(|_| Some((200, None))), (Vec::new(), 1));
        assert_eq!(found(|_| None), (Vec::new(), 1));
    }
}
