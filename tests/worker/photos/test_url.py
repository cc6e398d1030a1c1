import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import ImageRefused
from worker.photos.url import MAX_URL_LENGTH, Location, locate
from worker.settings.addresses import origin


def test_a_signed_url_is_asked_for_unchanged() -> None:
    target = "/storage/v1/object/sign/photos/a%20b.jpg?token=eyJ.a-b_c&X-Amz-Credential=a%2Fb%2Bc=="
    assert locate(f"https://Abc.supabase.co{target}") == Location("https", "abc.supabase.co", 443, target)


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://photos.example/a", "photos.example"),
        ("http://photos.example:80/a", "photos.example"),
        ("https://photos.example:8443/a", "photos.example:8443"),
        ("https://photos.example./a", "photos.example"),
        ("http://[2606:4700:0::1111]:8080/a", "[2606:4700::1111]:8080"),
        ("https://bücher.example/a", "xn--bcher-kva.example"),
        ("https://my_shop.example/a", "my_shop.example"),
        ("https://stra\u00dfe.example/a", "xn--strae-oqa.example"),
        ("https://STRASSE.example/a", "strasse.example"),
        ("https://\u03c6\u03ac\u03c2.example/a", "xn--hxa8bk.example"),
        ("https://b\u00fccher\u3002example\u3002/a", "xn--bcher-kva.example"),
        ("https://bu\u0308cher.example/a", "xn--bcher-kva.example"),
        ("https://\u2615.example/a", "xn--53h.example"),
        ("https://\U0001f455\U0001f4f7.example/a", "xn--6p8hek.example"),
        ("https://my_sh\u00f6p.example/a", "xn--my_shp-0xa.example"),
        ("https://\uff50\uff48\uff4f\uff54\uff4f.example/a", "photo.example"),
        ("https://so\u00adft.example/a", "soft.example"),
    ],
)
def test_host_header_is_the_hosts_canonical_form(url: str, authority: str) -> None:
    assert locate(url).authority == authority


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://h.example", "/"),
        ("http://h.example?a=b", "/?a=b"),
        ("http://h.example/my photo.jpg#part", "/my%20photo.jpg"),
        ("http://h.example/é.jpg?ü", "/%C3%A9.jpg?%C3%BC"),
        ("http://h.example//other.example/a", "//other.example/a"),
    ],
)
def test_unencoded_characters_are_encoded_as_browsers_do(url: str, target: str) -> None:
    assert locate(url).target == target


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://127.0.0.1:9000",
            "https://abc.supabase.co",
            "http://localhost:54321/x?y",
            "https://My_Shop.example./",
        ),
        *("http://[0:0::1]:80/", "https://xn--strae-oqa.example:8443"),
    ],
)
def test_origin_has_the_form_that_settings_use(url: str) -> None:
    assert locate(url).origin == origin(url)


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://h.example/a", "file:///etc/passwd", "gopher://h.example/", "data:image/png;base64,AA", "unix:/run/x"),
        *("", "/a.jpg", "//h.example/a", "h.example/a", "http:h.example", "http:///a", "http://", "http://?a"),
        *("http://user:password@h.example/", "http://user@h.example/", "http://@h.example/", "http://a@b@h.example/"),
        *("http://h.example:0/", "http://h.example:65536/", "http://h.example:-1/", "http://h.example:8 0/"),
        *("http://h.example:٨٠/", "http://h.example:http/"),
        *("http://h.example\\@other.example/", "http:\\\\h.example", "http://h.example\\a", "http://h.example/a\\b"),
        *(
            "http://h.example/a\nb",
            "http://h.example/\r\nX: y",
            "http://h.exa\tmple/",
            "http://h.example/\0",
            "\x1fhttp://h",
        ),
        *(" http://h.example/", "http://h.example/ ", "\u00a0http://h.example/", "http://h.example/a\u2028"),
        *("http://h example/", "http://h%2eexample/", "http://%31%32%37.0.0.1/", "http://h.example%00.other.example/"),
        *("http://a..b/", "http://-a.example/", "http://a-.example/", "http://.example/", "http://h.example../"),
        *("http://h;example/", "http://h,example/", "http://h'example/", "http://h\u2028example/", "http://h\ud800/"),
        *(
            "http://h.example/\ud800",
            "http://h\u2100.example/",
            f"http://{'a' * 64}.example/",
            f"http://{'a.' * 127}b/",
        ),
        "http://h.example/" + "a" * MAX_URL_LENGTH,
    ],
)
def test_anything_but_a_plain_web_address_is_refused(url: str) -> None:
    with pytest.raises(ImageRefused):
        locate(url)


@pytest.mark.parametrize(
    "host",
    [
        *("2130706433", "0x7f000001", "0x7F000001", "017700000001", "0177.0.0.1", "0x7f.0.0.1", "0x7f.1", "127.1"),
        *("127.0.1", "127.0.0.01", "127.0.0.0x1", "1.2.3.4.5", "256.1.1.1", "0", "0x", "999999999999"),
        *("8.8.8.010", "photos.example.1", "1e3.0x8"),
        *("[::1%25lo]", "[fe80::1%eth0]", "[::1]a", "a[::1]", "[::1", "::1]", "[::1]]", "[127.0.0.1]", "[v1.a]", "[]"),
    ],
)
def test_addresses_in_unusual_spellings_are_refused(host: str) -> None:
    with pytest.raises(ImageRefused):
        locate(f"http://{host}/")


@pytest.mark.parametrize(
    "host",
    [
        "\uff11\uff12\uff17.0.0.1",
        "127\u30020\u30020\u30021",
        "127\uff0e0\uff0e0\uff0e1",
        "\u246027.0.0.1",
        "127.0.0.1.",
    ],
)
def test_an_address_in_disguise_is_read_as_the_address(host: str) -> None:
    assert locate(f"http://{host}/").host == "127.0.0.1"


def test_refusal_does_not_repeat_the_url() -> None:
    with pytest.raises(ImageRefused) as refused:
        locate("http://user:secret@h.example/secret?token=secret")
    assert "secret" not in str(refused.value)


@given(st.text(max_size=60), st.text(max_size=60), st.sampled_from(["http://", "https://", "", "http:/", "HTTP://"]))
def test_whatever_is_written_the_result_is_safe_to_send(host: str, rest: str, scheme: str) -> None:
    try:
        location = locate(scheme + host + "/" + rest)
    except ImageRefused:
        return
    wire = location.authority + location.target
    assert wire.isascii()
    assert wire.isprintable()
    assert " " not in wire
    assert location.target.startswith("/")
    assert not set("/@\\?#") & set(location.authority)
