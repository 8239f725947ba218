//! The head of a message as it was on the wire, parsed by rules as strict as the ones the balancer must keep.

use std::fmt;

/// One message head: the raw bytes and what they say.
#[derive(Clone)]
pub(crate) struct Head {
    pub(crate) raw: Vec<u8>,
    pub(crate) first_line: String,
    fields: Vec<(String, Vec<u8>)>,
}

impl Head {
    /// Parses a head that ends in an empty line; the error says what is wrong with it.
    pub(crate) fn parse(raw: &[u8]) -> Result<Self, String> {
        let text = raw.strip_suffix(b"\r\n\r\n").ok_or("the head does not end in an empty line")?;
        let mut lines = split_lines(text)?.into_iter();
        let first_line = lines.next().ok_or("the head is empty")?;
        let first_line = String::from_utf8_lossy(first_line).into_owned();
        Ok(Self { raw: raw.to_vec(), first_line, fields: lines.map(field).collect::<Result<_, _>>()? })
    }

    /// All values of a field, in order.
    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        let named = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        named.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }

    /// All values of a list field as one list.
    pub(crate) fn list(&self, name: &str) -> String {
        self.values(name).join(", ")
    }

    /// The only value of a field; panics when it is there more than once.
    pub(crate) fn value(&self, name: &str) -> Option<String> {
        let mut values = self.values(name);
        assert!(values.len() < 2, "{name} is there {} times in {self:?}", values.len());
        values.pop()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        !self.values(name).is_empty()
    }

    /// Whether the comma-separated field `name` has the member `token`.
    pub(crate) fn lists(&self, name: &str, token: &str) -> bool {
        self.list(name).split(',').any(|member| member.trim().eq_ignore_ascii_case(token))
    }

    /// The raw field lines without their line ends, in order.
    pub(crate) fn lines(&self) -> Vec<Vec<u8>> {
        let text = &self.raw[..self.raw.len() - 4];
        split_lines(text).unwrap().into_iter().skip(1).map(<[u8]>::to_vec).collect()
    }

    /// The declared length, if there is one.
    pub(crate) fn length(&self) -> Result<Option<usize>, String> {
        let Some(value) = self.value("content-length") else { return Ok(None) };
        let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let length = if digits { value.parse().ok() } else { None };
        length.map(Some).ok_or(format!("invalid Content-Length {value:?}"))
    }

    /// Whether the body is chunked; any other coding, or a length beside it, is an error.
    pub(crate) fn chunked(&self) -> Result<bool, String> {
        if !self.has("transfer-encoding") {
            return Ok(false);
        }
        if self.has("content-length") {
            return Err("both Transfer-Encoding and Content-Length".to_owned());
        }
        let coding = self.list("transfer-encoding");
        if coding.eq_ignore_ascii_case("chunked") {
            Ok(true)
        } else {
            Err(format!("transfer coding {coding:?}"))
        }
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.raw.escape_ascii())
    }
}

/// Splits at CRLF and refuses every other CR or LF.
pub(crate) fn split_lines(text: &[u8]) -> Result<Vec<&[u8]>, String> {
    let mut lines = Vec::new();
    let mut rest = text;
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n");
        let line = &rest[..end.unwrap_or(rest.len())];
        if line.iter().any(|byte| b"\r\n\0".contains(byte)) {
            return Err(format!("stray control byte in {:?}", line.escape_ascii().to_string()));
        }
        lines.push(line);
        let Some(end) = end else { return Ok(lines) };
        rest = &rest[end + 2..];
    }
}

/// One field line: a token, a colon at once, and a value without the space around it.
pub(crate) fn field(line: &[u8]) -> Result<(String, Vec<u8>), String> {
    let wrong = || format!("invalid field line {:?}", line.escape_ascii().to_string());
    let colon = line.iter().position(|&byte| byte == b':').ok_or_else(wrong)?;
    let name = &line[..colon];
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    if name.is_empty() || !name.iter().all(token) {
        return Err(wrong());
    }
    let value = line[colon + 1..].trim_ascii();
    if value.iter().any(|&byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f) {
        return Err(wrong());
    }
    Ok((String::from_utf8(name.to_vec()).unwrap(), value.to_vec()))
}
