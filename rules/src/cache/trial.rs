//! Finds which of the omitted fields a redirect to the request's own path depends on.

/// Where an answer leads: its status and its `Location`.
pub type Led = (u16, Option<Vec<u8>>);

/// A series of requests, each with one more of the omitted fields, that finds the fields whose
/// presence alone changes where the answer redirects. Begin one when a request whose answer leads
/// to its own path ([`super::Plan::leads_back`]) leads elsewhere once the full request is sent. Ask
/// one request at a time, as long as [`Trial::next_fields`] gives fields.
#[derive(Debug)]
pub struct Trial {
    /// The fields that the route's requests carry anyway.
    known: Vec<String>,
    untried: std::vec::IntoIter<String>,
    /// Where the redirect led.
    led: Led,
    /// The field that is being tried; none in the first request, which has no additional field.
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

    /// The fields ([`super::Plan::learned`]) of the next request, or none when the trial is over.
    pub fn next_fields(&mut self) -> Option<Vec<String>> {
        if !self.is_begun {
            self.is_begun = true;
            return Some(self.known.clone());
        }
        // A redirect whose target changes each time depends on no field.
        self.field = self.untried.next().filter(|_| self.is_steady);
        let field = self.field.clone()?;
        Some(self.known.iter().cloned().chain([field]).collect())
    }

    /// Records where the last answer leads. None when there was no answer, which proves nothing.
    pub fn led(&mut self, led: Option<&Led>) {
        let is_same = led == Some(&self.led);
        match self.field.take() {
            None => self.is_steady = is_same,
            Some(field) if led.is_some() && !is_same => self.found.push(field),
            Some(_) => {}
        }
    }

    /// The fields that the redirect depends on. Empty when it depends on none of them alone.
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
