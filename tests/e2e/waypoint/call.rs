//! One request of a client in the lab, and its answer.

use ambit_lab::harness::Lab;
use serde_json::Value;

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Call {
    from: &'static str,
    url: String,
    arguments: Vec<String>,
}

/// What came back.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Call {
    /// `GET URL`; without a scheme and host it goes to the service `echo`.
    pub(super) fn get(from: &'static str, url: &str) -> Self {
        let url = match url.strip_prefix('/') {
            Some(path) => format!("http://echo.mesh/{path}"),
            None => format!("http://{url}"),
        };
        Self {
            from,
            url,
            arguments: Vec::new(),
        }
    }

    pub(super) fn method(self, method: &str) -> Self {
        self.with(&["-X", method])
    }

    pub(super) fn header(self, name: &str, value: &str) -> Self {
        self.with(&["-H", &format!("{name}: {value}")])
    }

    pub(super) fn data(self, data: &str) -> Self {
        self.with(&["--data", data])
    }

    pub(super) fn h2(self) -> Self {
        self.with(&["--h2"])
    }

    fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(|it| (*it).to_owned()));
        self
    }

    /// The answer.
    ///
    /// # Panics
    /// When there is none.
    pub(super) fn answer(&self, lab: &Lab) -> Answer {
        self.try_answer(lab)
            .unwrap_or_else(|said| panic!("{self:?}: {said}"))
    }

    /// The answer, or why there is none.
    pub(super) fn try_answer(&self, lab: &Lab) -> Result<Answer, String> {
        let mut arguments = vec!["get", "-i"];
        arguments.extend(self.arguments.iter().map(String::as_str));
        arguments.push(&self.url);
        let ran = lab.load(self.from, &arguments);
        if ran.code != 0 {
            return Err(ran.stderr);
        }
        Answer::parse(&ran.stdout).ok_or(ran.stdout)
    }
}

impl Answer {
    fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\n\n")?;
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Some(Self {
            status,
            headers,
            body: body.to_owned(),
        })
    }

    /// The values of a response header.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> = self
            .headers
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect();
        (!values.is_empty()).then(|| values.join(","))
    }

    /// What the server says it received.
    ///
    /// # Panics
    /// When a server of ours did not answer.
    pub(super) fn received(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The pod that answered; empty when the waypoint did.
    pub(super) fn server(&self) -> String {
        serde_json::from_str::<Value>(&self.body)
            .ok()
            .and_then(|value| Some(value["hostname"].as_str()?.to_owned()))
            .unwrap_or_default()
    }

    /// A header that the server received.
    pub(super) fn sent(&self, name: &str) -> Option<String> {
        let received = self.received();
        Some(received["headers"][name].as_str()?.to_owned())
    }
}
