"""The URLs and email addresses that are found in a text."""

from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.posts.links import Link, links_in

PARTS = st.lists(
    st.sampled_from(["https://", "mailto:", "example", ".com", ".", "@", ":", "/", "?", "#"])
    | st.sampled_from(["(", ")", '"', "-", "é", "日", "7", " "]),
    max_size=20,
).map("".join)


def urls_in(text: str) -> list[tuple[str, str | None]]:
    """Return the part of a text that each URL or email address covers, with its URI."""
    return [(text[link.start : link.end], link.url) for link in links_in(text)]


class TestUrls:
    @pytest.mark.parametrize(
        "url",
        [
            pytest.param("https://example.com", id="domain"),
            pytest.param("HTTP://Example.COM/", id="upper case"),
            pytest.param("http://intranet/#a", id="one label"),
            pytest.param("https://en.example/Oracle_America,_Inc.#Decision", id="full stop"),
            pytest.param("http://x.example/r?period=#abc123", id="empty value"),
            pytest.param("https://x.example/(a)#part", id="brackets before the fragment"),
            pytest.param("https://x.example/a_(b_(c))/[d]", id="nested brackets"),
            pytest.param("https://x.example/a-#part", id="hyphen"),
            pytest.param("https://x.example/!#bang", id="exclamation mark"),
            pytest.param("https://x.example/#/a/b?c=@d&e=#f", id="fragment like a path"),
            pytest.param("https://x.example?a=1;b=2,3:4", id="query without a path"),
            pytest.param("https://x.example/?u=@ann", id="username in the query"),
            pytest.param("https://x.example/~@ann/@bob", id="username in the path"),
            pytest.param("https://x.example/it's%20%", id="quote and percent signs"),
            pytest.param("http://user:pa$$@x.example:8080/", id="userinfo and port"),
            pytest.param("http://127.0.0.1:8000/#a", id="IPv4"),
            pytest.param("http://[2001:db8::1]:8000/#a", id="IPv6"),
            pytest.param("https://example.com./?u=@ann", id="full stop after the domain"),
            pytest.param("https://a_b.example/", id="underscore"),
            pytest.param("https://xn--bcher-kva.example/", id="domain in ASCII form"),
        ],
    )
    def test_in_ascii_are_returned_as_they_are(self, url: str) -> None:
        for before, after in [("", ""), ("See ", "."), ("(", "), "), ("<", ">b"), ('"', '"'), ("見", "\nb")]:
            assert urls_in(f"{before}{url}{after}") == [(url, url)]

    @pytest.mark.parametrize(
        ("text", "uri"),
        [
            pytest.param(
                "https://bücher.example/ü?q=ä#ö",
                "https://xn--bcher-kva.example/%C3%BC?q=%C3%A4#%C3%B6",
                id="accents",
            ),
            pytest.param(
                "http://例え.テスト/あ", "http://xn--r8jz45g.xn--zckzah/%E3%81%82", id="other script"
            ),
            pytest.param(
                "https://ja.example/娘。#歌",
                "https://ja.example/%E5%A8%98%E3%80%82#%E6%AD%8C",
                id="ideographic full stop",
            ),
            pytest.param(
                "https://x.example/می\u200cخ", "https://x.example/%D9%85%DB%8C%E2%80%8C%D8%AE", id="joiner"
            ),
            pytest.param(
                "https://x.example/{a}|b^c`d\\e",
                "https://x.example/%7Ba%7D%7Cb%5Ec%60d%5Ce",
                id="ASCII that URIs exclude",
            ),
            pytest.param("https://ü:ü@x.example/", "https://%C3%BC:%C3%BC@x.example/", id="userinfo"),
        ],
    )
    def test_with_other_characters_are_returned_as_uris(self, text: str, uri: str) -> None:
        assert urls_in(text) == [(text, uri)]

    @pytest.mark.parametrize(
        ("text", "urls"),
        [
            pytest.param("「https://x.example/a」。b", ["https://x.example/a"], id="CJK bracket"),
            pytest.param("https://x.example/a）b", ["https://x.example/a"], id="fullwidth bracket"),
            pytest.param("[a](https://x.example/a)[b](c)", ["https://x.example/a"], id="Markdown"),
            pytest.param(
                "https://x.example/a… “http://b.example”,", ["https://x.example/a", "http://b.example"]
            ),
            pytest.param(
                "http://x.example/a?! http://x.example/(b", ["http://x.example/a", "http://x.example/(b"]
            ),
            pytest.param(
                "http://x.example/a( http://x.example/b:", ["http://x.example/a", "http://x.example/b"]
            ),
            pytest.param(
                "http://x.example/\u200bb http://y.example/\u202eb",
                ["http://x.example/", "http://y.example/"],
            ),
            pytest.param("http://x.example, http://y.example: ", ["http://x.example", "http://y.example"]),
            pytest.param("https://example.comを見て", ["https://example.com"], id="before another script"),
            pytest.param("https://example.org은", ["https://example.org"], id="before Hangul"),
            pytest.param("https://ab日本.example", ["https://ab日本.example"], id="label of two scripts"),
            pytest.param("https://x.example/\n/b", ["https://x.example/"], id="line end"),
            pytest.param("1https://x.example/#a", ["https://x.example/#a"], id="after a digit"),
            pytest.param("see.https://x.example/#a", ["https://x.example/#a"], id="after a full stop"),
        ],
    )
    def test_end_before_surrounding_text(self, text: str, urls: list[str]) -> None:
        assert [covered for covered, _ in urls_in(text)] == urls

    @pytest.mark.parametrize(
        ("text", "url"),
        [
            pytest.param("See example.com.", "https://example.com", id="domain"),
            pytest.param("www.example.co.uk/a?b#c", "https://www.example.co.uk/a?b#c", id="path"),
            pytest.param("example.com:8080/@ann", "https://example.com:8080/@ann", id="port"),
            pytest.param("EXAMPLE.COM", "https://EXAMPLE.COM", id="upper case"),
            pytest.param("(bücher.de)", "https://xn--bcher-kva.de", id="accents"),
            pytest.param("公式example.com", "https://example.com", id="after a script without spaces"),
            pytest.param("ที่example.com", "https://example.com", id="after a Thai mark"),
            pytest.param("example.comを見て", "https://example.com", id="before another script"),
            pytest.param("a.xn--p1ai", "https://a.xn--p1ai", id="top-level domain in ASCII form"),
            pytest.param(
                "почта.рф", "https://xn--80a1acny.xn--p1ai", id="top-level domain of another script"
            ),
            pytest.param("Link:example.com", "https://example.com", id="after a colon"),
            pytest.param("x.example.com?u=a@b.example", "https://x.example.com?u=a@b.example", id="query"),
        ],
    )
    def test_without_a_scheme_begin_with_a_domain(self, text: str, url: str) -> None:
        assert [found for _, found in urls_in(text)] == [url]

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("Thanks.It was 3.14, e.g. a.b or main.nosuchtld.", id="no top-level domain"),
            pytest.param("@example.com #example.com $example.com &example.com", id="after a sign"),
            pytest.param("/example.com -example.com .example.com _example.com", id="after a separator"),
            pytest.param("example.com-b example.com_b example.comé example.com.b", id="longer domain"),
            pytest.param("почта.рфы", id="longer domain of another script"),
            pytest.param("a:b : (: ::", id="colons"),
        ],
    )
    def test_without_a_scheme_are_no_other_words(self, text: str) -> None:
        assert urls_in(text) == []


class TestOtherAddresses:
    """Nothing in them is an entity, but they are no entities themselves."""

    @pytest.mark.parametrize(
        "text",
        [
            "ann@example.com",
            "ann@corp.local",
            "a.#b+c@example.com",
            "ann.com@example.com",
            "first.co.uk+x@example.com",
            '"#b"@example.com',
            "иван@пример.рф",
            "mailto:@ann?subject=#x",
            "MAILTO:ann@example.com",
            "xmpp:ann@example.com/#x",
            "ftp://example.com/#a",
            "git+ssh://git@example.com:ann/#a",
            "xhttps://example.com/#a",
            "https:///@ann",
            "https://@ann",
            "http://#a",
            "http://[::x]/#a",
            "http://a.b:99999/#a",
            "https://ü_.example/#a",
            f"https://{'ü' * 70}.example/#a",
            "localhost:8000/?u=@ann",
            "127.0.0.1/#a",
        ],
    )
    def test_are_found_without_a_url(self, text: str) -> None:
        for surrounded in (text, f"見よ {text} b"):
            assert urls_in(surrounded) == [(text, None)]

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("@ann x@bob -@ann.bob '@ann.bob'", id="usernames"),
            pytest.param("ありがとう@ann.bob", id="username after another script"),
            pytest.param("cc: @ann, localhost, 127.0.0.1", id="punctuation"),
        ],
    )
    def test_are_no_other_words(self, text: str) -> None:
        assert urls_in(text) == []


class TestLinksIn:
    @given(PARTS | st.text(max_size=40))
    @settings(deadline=None)
    def test_returns_links_that_do_not_overlap(self, text: str) -> None:
        links = links_in(text)

        positions = [position for link in links for position in (link.start, link.end)]
        assert positions == sorted(positions)
        assert all(link.start < link.end <= len(text) for link in links)

    @given(PARTS, PARTS)
    @settings(deadline=None)
    def test_finds_the_links_of_each_line_separately(self, before: str, after: str) -> None:
        start = len(before) + 1
        shifted = [Link(start + link.start, start + link.end, link.url) for link in links_in(after)]

        assert links_in(f"{before}\n{after}") == (*links_in(before), *shifted)

    @pytest.mark.parametrize("begin", ["", "http://", "https://a.b/", "mailto:"])
    @pytest.mark.parametrize(
        "part",
        [
            "a.",
            "a@",
            "é.",
            "1a",
            "a-b.",
            "x.com ",
            "https://",
            "http://a:",
            "a.#",
            "あ.a",
            "%",
            '"a',
            "((",
            "a-",
        ],
    )
    def test_takes_little_time_for_any_text(self, begin: str, part: str) -> None:
        text = (begin + part * 140)[:136] + "@a.b"
        started = process_time()

        links_in(text)

        assert process_time() - started < 0.2
