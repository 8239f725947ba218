//! Heads as they come from clients and backends.

/// What `curl` sends.
pub const CURL: &str =
    "GET /index.html HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n";

/// What a browser sends: 1 KiB, half of it cookies.
pub fn browser() -> String {
    let cookies = (0..6).map(|number| format!("preference_{number}={}", "0123456789abcdef".repeat(4)));
    let cookies = cookies.collect::<Vec<_>>().join("; ");
    format!(
        "GET /shop/shoes/running?sort=price&page=3 HTTP/1.1\r\n\
         Host: www.example.com\r\n\
         Connection: keep-alive\r\n\
         sec-ch-ua: \"Chromium\";v=\"130\", \"Not?A_Brand\";v=\"99\"\r\n\
         sec-ch-ua-mobile: ?0\r\n\
         sec-ch-ua-platform: \"Linux\"\r\n\
         Upgrade-Insecure-Requests: 1\r\n\
         User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0\r\n\
         Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
         Sec-Fetch-Site: same-origin\r\n\
         Referer: https://www.example.com/shop/shoes\r\n\
         Accept-Encoding: gzip, deflate, br\r\n\
         Accept-Language: en-GB,en;q=0.9\r\n\
         Cookie: {cookies}\r\n\r\n"
    )
}

/// Forty fields, most of which mean nothing here.
pub fn forty_fields() -> String {
    let fields = (0..38).map(|number| format!("X-Custom-Field-{number}: value number {number}\r\n"));
    format!(
        "POST /api/v1/items HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 512\r\n{}\r\n",
        fields.collect::<String>()
    )
}

/// The answer of a small origin.
pub const SMALL_ANSWER: &str =
    "HTTP/1.1 200 OK\r\nContent-Length: 128\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n";

/// The answer of an application behind a web server.
pub const USUAL_ANSWER: &str = "HTTP/1.1 200 OK\r\n\
    Server: nginx/1.27.2\r\n\
    Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    Content-Type: text/html; charset=utf-8\r\n\
    Content-Length: 18234\r\n\
    Connection: keep-alive\r\n\
    Vary: Accept-Encoding\r\n\
    Cache-Control: private, max-age=0, must-revalidate\r\n\
    ETag: \"5f3e-61a2b3c4d5e6f\"\r\n\
    Set-Cookie: session=0123456789abcdef0123456789abcdef; Path=/; HttpOnly; Secure; SameSite=Lax\r\n\
    Strict-Transport-Security: max-age=31536000; includeSubDomains\r\n\
    X-Content-Type-Options: nosniff\r\n\r\n";

/// The head of a streamed answer, without a date of its own: ours is added.
pub const CHUNKED_ANSWER: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_what_their_names_say() {
        assert!((1_000..1_200).contains(&browser().len()), "{}", browser().len());
        assert_eq!(forty_fields().matches("\r\n").count(), 40 + 2);
    }
}
