//! A record: what one worker has seen of a backend since it told control last, and how control says it stands.
//!
//! Pure. It grows no larger however much happens between two reports.

use crate::health::standing::{Failure, Standing, TrialEnd};

/// What has become of a trial this worker was allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Trial {
    /// There is none.
    #[default]
    None,
    /// The next request may be it.
    Allowed,
    /// A request is it.
    UnderWay,
}

/// One backend's record.
#[derive(Debug, Clone, Copy, Default)]
pub struct Record {
    standing: Standing,
    trial: Trial,
    /// Control has been told of failures, or is about to be, and of no success since.
    is_failing: bool,
    news: News,
}

/// What control does not know yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct News {
    /// Failures after the last success.
    pub failures: u32,
    /// How the last one failed.
    pub failure: Option<Failure>,
    /// There was a success before them.
    pub succeeded: bool,
    /// What has become of the trial.
    pub trial: Option<TrialEnd>,
}

impl Record {
    /// How it stands.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// True when a success is worth more than a look at this.
    pub fn awaits_success(&self) -> bool {
        self.is_failing
    }

    /// Control has told how it stands. An allowed trial that is taken back has not been used.
    pub fn stands(&mut self, standing: Standing) {
        if self.trial == Trial::Allowed && standing != Standing::Trial {
            (self.trial, self.news.trial) = (Trial::None, Some(TrialEnd::Unused));
        }
        if standing == Standing::Trial && self.trial == Trial::None {
            self.trial = Trial::Allowed;
        }
        if standing == Standing::Up && self.standing != Standing::Up {
            self.is_failing = false;
        }
        self.standing = standing;
    }

    /// True while the next request may be a trial.
    pub fn may_begin_trial(&self) -> bool {
        self.trial == Trial::Allowed
    }

    /// Takes the trial if there is one: the request that does is it.
    pub fn begin_trial(&mut self) -> bool {
        let is_allowed = self.trial == Trial::Allowed;
        if is_allowed {
            self.trial = Trial::UnderWay;
        }
        is_allowed
    }

    /// The trial has come to its end.
    pub fn end_trial(&mut self, end: TrialEnd) {
        if self.trial == Trial::UnderWay {
            (self.trial, self.news.trial) = (Trial::None, Some(end));
        }
    }

    /// A request or connection has failed.
    pub fn failed(&mut self, failure: Failure) {
        self.is_failing = true;
        self.news.failures = self.news.failures.saturating_add(1);
        self.news.failure = Some(failure);
    }

    /// One has succeeded.
    pub fn succeeded(&mut self) {
        self.is_failing = false;
        (self.news.succeeded, self.news.failures, self.news.failure) = (true, 0, None);
    }

    /// True when control is to be told something.
    pub fn has_news(&self) -> bool {
        self.news != News::default()
    }

    /// What control is to be told, if there is anything.
    pub fn take_news(&mut self) -> Option<News> {
        let news = std::mem::take(&mut self.news);
        (news != News::default()).then_some(news)
    }

    /// It could not be told: it comes before what has happened since.
    pub fn put_back(&mut self, old: News) {
        let news = &mut self.news;
        if !news.succeeded {
            news.succeeded = old.succeeded;
            news.failures = news.failures.saturating_add(old.failures);
            news.failure = news.failure.or(old.failure);
        }
        news.trial = news.trial.or(old.trial);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_is_told_once_and_only_after_failures() {
        let mut record = Record::default();
        assert!(!record.awaits_success() && record.take_news().is_none());
        record.failed(Failure::Connect);
        record.failed(Failure::Timeout);
        assert!(record.awaits_success());
        let news = record.take_news().unwrap();
        assert_eq!((news.failures, news.failure, news.succeeded), (2, Some(Failure::Timeout), false));
        record.succeeded();
        record.failed(Failure::Connect);
        let news = record.take_news().unwrap();
        assert_eq!((news.failures, news.succeeded), (1, true));
        assert!(record.take_news().is_none());
    }

    #[test]
    fn a_trial_is_one_request_and_always_comes_back() {
        let mut record = Record::default();
        record.stands(Standing::Trial);
        assert!(record.begin_trial() && !record.begin_trial());
        record.stands(Standing::Trial);
        assert!(!record.begin_trial(), "told again while it is under way");
        record.stands(Standing::Out);
        assert_eq!(record.take_news(), None, "its end will tell");
        record.end_trial(TrialEnd::Failed);
        assert_eq!(record.take_news().unwrap().trial, Some(TrialEnd::Failed));
        record.stands(Standing::Trial);
        record.stands(Standing::Up);
        assert_eq!(record.take_news().unwrap().trial, Some(TrialEnd::Unused));
        record.end_trial(TrialEnd::Succeeded);
        assert_eq!(record.take_news(), None);
    }

    #[test]
    fn what_could_not_be_told_comes_before_what_happened_since() {
        let mut record = Record::default();
        record.failed(Failure::Connect);
        let old = record.take_news().unwrap();
        record.failed(Failure::Reset);
        record.put_back(old);
        assert_eq!(record.take_news().unwrap().failures, 2);
        record.succeeded();
        record.put_back(old);
        assert_eq!(record.take_news().unwrap().failures, 0);
    }
}
