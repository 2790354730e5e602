"""An operator's day: sign in, see an account fail and recover, switch one off, make a key, reload a changed file."""

import subprocess

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from browser import GIVEN, Page, admin, ask, chat, served, vendor


def the_link_of_the_first_start(page):
    page.open(f"/#login={GIVEN['code']}")
    page.wait(lambda: page.one("body.in"), "to be let in by the link")
    assert GIVEN["code"] not in page.driver.current_url, "it stays in no history"
    page.press("#leave")
    page.wait(lambda: page.one("input[name=token]"), "the login")
    page.open("/?again")
    page.open(f"/#login={GIVEN['code']}")
    page.wait(lambda: "used already" in page.text(".login [role=alert]"), "the link to be good once only")


def sign_in(page):
    page.open()
    page.wait(lambda: page.one("input[name=token]"), "the login").send_keys("pga-wrong")
    page.press(".login button")
    page.wait(lambda: "not known" in page.text(".login [role=alert]"), "to be refused")
    page.shot("login")
    page.sign_in()
    page.wait(lambda: page.text("#pulse") == "Serving", "the gateway's state")


def an_account_fails_and_recovers(page):
    page.go("accounts")
    page.wait(lambda: "healthy" in (page.row("a1") or ""), "a1 to be healthy")
    vendor(1, {"behaviour": {"status": "500"}})
    for _ in range(12):
        assert chat() == 200, "another account serves"
    # Nothing is loaded anew: it is told over the event stream.
    page.wait(lambda: "breaker open" in page.row("a1") and "HTTP 500" in page.row("a1"), "a1 to be shown as failed")
    assert "back in" in page.row("a1") or "for" in page.row("a1"), page.row("a1")
    page.wait(lambda: page.text("#badge-accounts") == "1", "the number of accounts that need somebody")
    page.wait(lambda: page.text("#pulse") == "Some accounts cannot serve", "the gateway's state to change")
    page.press("#screen td a", "a1")
    page.wait(lambda: "breaker open" in page.text(".drawer"), "a1 in its window")
    page.wait(lambda: "failed" in page.text(".drawer .brief") or page.one(".drawer .chain"), "its latest requests")
    page.shot("account")
    vendor(1, {"behaviour": {}})
    page.press(".drawer button", "Reset")
    page.wait(lambda: "healthy" in page.text(".drawer .notice"), "a1 to be well")
    page.press(".drawer header button")
    page.wait(lambda: "healthy" in page.row("a1"), "a1 to be healthy again")
    page.go("overview")
    page.wait(lambda: "breaker open" in page.text("#screen ol.feed"), "what happened")


def traffic_moves_when_an_account_is_disabled(page):
    page.go("accounts")
    page.press("button[aria-label='Actions for a0']")
    page.press("[role=menuitem]", "Disable")
    page.wait(lambda: page.one("dialog[open]"), "to be asked")
    assert admin("/api/v1/accounts/a0")["enabled"], "nothing is done before the answer"
    page.press("dialog[open] footer .danger")
    page.wait(lambda: "disabled" in page.row("a0"), "a0 to be disabled")
    before = [served(n) for n in range(3)]
    for _ in range(6):
        assert chat() == 200
    after = [served(n) for n in range(3)]
    assert after[0] == before[0] and sum(after) >= sum(before) + 6, (before, after)
    page.press("button[aria-label='Actions for a0']")
    page.press("[role=menuitem]", "Enable")
    page.wait(lambda: "healthy" in page.row("a0"), "a0 to serve again")


def an_account_with_a_login_is_added(page):
    """By its refresh token, which the gateway renews from then on."""
    vendor(2, {"oauth": {"refresh_tokens": ["rt-of-the-page"]}})
    page.go("accounts")
    page.press("#screen .head button", "Add an account")
    page.fill("Name", "by-login")
    page.fill("Upstream", GIVEN["mocks"][2])
    page.choose("Credential", "Another kind, as JSON")
    page.fill("JSON", "{oauth2: rt-of-the-page")
    page.press("dialog[open] button[type=submit]")
    page.wait(lambda: page.text("dialog[open] [role=alert]") == "This is no JSON.", "the mistake in words that quote nothing")
    page.choose("Credential", "OAuth 2")
    page.fill("Token address", GIVEN["mocks"][2] + "/oauth/token")
    page.fill("Client id", "page")
    page.fill("Refresh token", "rt-of-the-page")
    page.assert_accessible("the form for an account with a login")
    page.shot("new-login")
    page.press("dialog[open] button[type=submit]")
    page.wait(lambda: "OAuth 2" in page.row("by-login"), "the account")
    page.wait(lambda: admin("/api/v1/accounts/by-login")["credential"]["last_refresh"], "its token to be granted")
    assert "rt-of-the-page" not in page.driver.page_source, "it is not shown again"
    page.press("button[aria-label='Actions for by-login']")
    page.press("[role=menuitem]", "Remove…")
    page.press("dialog[open] footer .danger")
    page.wait(lambda: not page.row("by-login"), "the account to be gone")
    vendor(2, {"oauth": None})


def a_key_is_made_and_used(page):
    page.go("keys")
    page.wait(lambda: "No key was issued yet" in page.text("#screen"), "the empty list")
    page.press("#screen .head button", "Create a key")
    page.fill("Name", "laptop")
    page.press("dialog[open] button[type=submit]")
    key = page.wait(lambda: page.text("#new-key"), "the key")
    assert key.startswith("sk-pg-"), key
    page.shot("key")
    nothing_but_its_button_closes_it(page, key)
    tell_each_client(page, key)
    page.press("dialog.must footer button")
    page.wait(lambda: page.row("laptop"), "the key in the list")
    assert key not in page.driver.page_source, "it is shown once"
    # With the first key every client needs one.
    body = '{"model": "gpt-5", "messages": [{"role": "user", "content": "Hello"}]}'
    curl = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Content-Type: application/json", "-d", body, f"{GIVEN['gateway']}/v1/chat/completions"]
    without = subprocess.run(curl, capture_output=True, text=True, check=True)
    assert without.stdout == "401", without.stdout
    with_key = subprocess.run([*curl, "-H", f"Authorization: Bearer {key}"], capture_output=True, text=True, check=True)
    assert with_key.stdout == "200", with_key.stdout
    page.go("requests")
    page.wait(lambda: "laptop" in page.text("#screen tbody"), "the request with its key")
    page.go("keys")
    a_request_is_tried(page, key)
    its_limits_are_two(page)
    page.press("button[aria-label='Actions for laptop']")
    page.press("[role=menuitem]", "Revoke…")
    page.press("dialog[open] footer .danger")
    page.wait(lambda: not page.row("laptop"), "the key to be gone")
    assert ask(f"{GIVEN['gateway']}/v1/models", headers={"Authorization": f"Bearer {key}"})[0] == 401


def a_request_is_tried(page, key):
    """Without being sent."""
    before = [served(n) for n in range(3)]
    page.go("accounts")
    page.press("#screen .head button", "Try a request…")
    page.fill("Model", "gpt-5")
    page.fill("Key of a client", key)
    page.press("dialog[open] button[type=submit]")
    said = page.wait(lambda: "would send it to" in page.text("#routed") and page.text("#routed"), "where it would go")
    assert "Pool default" in said and "another one" in said, said
    page.shot("route")
    page.press("dialog[open] footer button", "Close")
    assert [served(n) for n in range(3)] == before
    page.go("keys")


def its_limits_are_two(page):
    page.press("button[aria-label='Actions for laptop']")
    page.press("[role=menuitem]", "Change…")
    page.wait(lambda: page.one("dialog[open] .limit"), "the limits")
    page.fill("Limit", "100")
    page.press("dialog[open] button", "Another limit")
    page.wait(lambda: len(page.all("dialog[open] .limit")) == 2, "a second one")
    second = page.all("dialog[open] .limit")[1].find_elements(By.CSS_SELECTOR, "input")
    for field, text in zip(second, ["7", "1d", "*opus*"]):
        field.send_keys(text)
    page.press("dialog[open] button[type=submit]")
    page.wait(lambda: not page.one("dialog[open]"), "it to be kept")
    found = [key for key in admin("/api/v1/keys")["keys"] if key["name"] == "laptop"]
    limits = found[0]["limits"]
    assert [limit["requests"] for limit in limits] == [100, 7], limits
    assert limits[1]["window"] in ("1d", "1day") and limits[1]["models"] == "*opus*", limits


def nothing_but_its_button_closes_it(page, key):
    """It is shown only once."""
    for _ in range(3):
        page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    page.go("slots")
    page.go("keys")
    assert page.text("#new-key") == key
    assert not page.all("dialog.must header button")


def tell_each_client(page, key):
    """The lines are those of `poolgate env`, with the key in them."""
    for client, tab in [("openai", "OpenAI SDK"), ("anthropic", "Anthropic SDK"), ("claude", "Claude Code"), ("codex", "Codex"), ("gemini", "Gemini CLI")]:
        page.press("[role=tab]", tab)
        shown = page.wait(lambda: [one.text for one in page.all("#recipe pre")], f"the lines for {tab}")
        said = subprocess.run([GIVEN["poolgate"], "env", client, "-c", GIVEN["file"]], capture_output=True, text=True, check=True).stdout
        wanted = [line.removeprefix("# ").replace("YOUR_KEY", key).replace("=any", f"={key}") for line in said.splitlines()]
        for line in "\n".join(shown).splitlines():
            assert line in wanted, f"{tab}: {line!r} is not in {wanted}"
        exports = [line for line in wanted if line.startswith("export ")]
        assert all(line in "\n".join(shown) for line in exports), f"{tab}: {exports} are not all in {shown}"


def a_changed_file_is_reloaded(page):
    with open(GIVEN["file"], encoding="utf-8") as file:
        text = file.read()
    assert "strategy: round_robin" in text
    with open(GIVEN["file"], "w", encoding="utf-8") as file:
        file.write(text.replace("strategy: round_robin", "strategy: least_used"))
    page.go("config")
    page.press("#screen .head .primary")
    page.wait(lambda: page.one("dialog .diff"), "the difference")
    shown = page.text("dialog .diff")
    assert "round_robin" in shown and "least_used" in shown, shown
    assert admin("/api/v1/pools")["pools"][0]["strategy"] == "round_robin", "nothing is done before the answer"
    page.shot("reload")
    page.press("dialog footer .primary")
    page.wait(lambda: admin("/api/v1/pools")["pools"][0]["strategy"] == "least_used", "the file to be in force")
    with open(GIVEN["file"], "w", encoding="utf-8") as file:
        file.write("pools: [\n")
    page.wait(lambda: not page.one("dialog"), "the window to close")
    page.press("#screen .head .primary")
    page.wait(lambda: "has mistakes" in page.text("dialog"), "the mistakes")
    page.press("dialog footer button", "Close")


def sign_out(page):
    page.press("#leave")
    page.wait(lambda: page.one("input[name=token]"), "the login")
    page.driver.refresh()
    page.wait(lambda: page.one("input[name=token]"), "the login, as the session is over")


with Page() as page:
    the_link_of_the_first_start(page)
    sign_in(page)
    an_account_fails_and_recovers(page)
    traffic_moves_when_an_account_is_disabled(page)
    an_account_with_a_login_is_added(page)
    a_key_is_made_and_used(page)
    a_changed_file_is_reloaded(page)
    # What the gateway refused, as it should.
    page.assert_nothing_went_wrong(but=["/api/v1/reload"])
    sign_out(page)
