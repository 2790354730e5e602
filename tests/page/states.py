"""What is seen when nothing is there, when there is very much, when the gateway goes away and when the session ends."""

import os
import signal
import urllib.error
import urllib.request

from browser import GIVEN, Page, admin, ask


def a_thousand_accounts(page):
    page.sign_in()
    page.go("accounts")
    page.wait(lambda: page.text("#screen h1").split()[-1:] == ["1,000"], "all accounts to be counted")
    drawn = len(page.all("#screen tbody tr"))
    assert drawn < 120, f"{drawn} rows are drawn for 1,000 accounts"
    page.driver.execute_script("scrollTo(0, document.documentElement.scrollHeight)")
    page.wait(lambda: page.row("b999"), "the last account")
    page.assert_no_sideways_scrolling("1,000 accounts")
    page.shot("many")
    # A filter stands in the address, so that it can be sent to somebody.
    page.one("[data-search]").send_keys("b77")
    page.wait(lambda: page.text("#screen h1").split()[-3:] == ["11", "of", "1,000"], "what was searched")
    assert "find=b77" in page.driver.current_url, page.driver.current_url
    page.driver.refresh()
    page.wait(lambda: page.text("#screen h1").split()[-3:] == ["11", "of", "1,000"], "the same after a reload")
    page.one("[data-search]").send_keys("nobody")
    page.wait(lambda: "No account is like that" in page.text("#screen"), "nothing")
    page.shot("no-match")


def another_tab_signs_in(page):
    """The cookie is of another session then, and what the page says of it with each write of the one before."""
    page.go("accounts")
    page.wait(lambda: page.row("b0"), "the accounts")
    script = """const [token, done] = arguments;
        fetch("/api/v1/session", {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify({token})})
            .then((answer) => done(answer.status));"""
    assert page.driver.execute_async_script(script, GIVEN["token"]) == 200
    page.press("button[aria-label='Actions for b0']")
    page.press("[role=menuitem]", "Reset")
    page.wait(lambda: "b0 was reset" in page.text("#toasts"), "the write to be done all the same")


def too_many_listen(page):
    """The page neither asks for everything again and again, nor is it away; and it listens once there is a place."""
    request = urllib.request.Request(f"{GIVEN['admin']}/api/v1/events", headers={"Authorization": f"Bearer {GIVEN['token']}"})
    held = []

    def all_places_are_taken():
        """The page's own as well, once the gateway has seen that it listens no more."""
        try:
            held.append(urllib.request.urlopen(request, timeout=60))
        except urllib.error.HTTPError as error:
            assert error.code == 429, error
        return len(held) == 32

    page.press("#leave")
    page.wait(all_places_are_taken, "32 to listen")
    page.command("Page.addScriptToEvaluateOnNewDocument", source="""
        window.streams = 0;
        window.EventSource = class extends EventSource { constructor(...given) { super(...given); streams += 1; } };
    """)
    page.sign_in()
    page.wait(lambda: page.driver.execute_script("return window.streams") >= 2, "it to try again")
    history = "return performance.getEntriesByType('resource').filter(({ name }) => name.endsWith('/api/v1/history')).length"
    assert page.driver.execute_script(history) == 1, "everything is asked for once"
    assert "does not answer" not in page.text("#banner")
    for stream in held:
        stream.close()
    page.wait(lambda: page.driver.execute_script(history) == 2, "it to listen, and to have missed nothing")


def nothing_yet(page):
    for screen, words in [("keys", "No key was issued yet"), ("slots", "No tier has slots"), ("instances", "No account has a local program"),
                          ("requests", "No requests yet"), ("usage", "Nothing was used in this time")]:
        page.go(screen)
        page.wait(lambda: words in page.text("#screen"), f"{words} on {screen}")
        page.shot(f"empty-{screen}")
        page.assert_accessible(f"{screen} with nothing")


def a_late_screen_covers_nothing(page):
    """Somebody goes on before a screen has come: it is that of the last click that stays."""
    page.driver.refresh()
    page.go("slots")
    page.command("Network.enable")
    page.command("Network.setCacheDisabled", cacheDisabled=True)
    page.command("Network.emulateNetworkConditions", offline=False, latency=600, downloadThroughput=-1, uploadThroughput=-1)
    page.driver.execute_script("location.hash = '#/usage'; setTimeout(() => { location.hash = '#/slots'; })")
    loaded = "return performance.getEntriesByType('resource').some(({ name }) => name.endsWith('/usage.js'))"
    page.wait(lambda: page.driver.execute_script(loaded), "the screen that nobody waits for")
    page.command("Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    page.wait(lambda: "No tier has slots" in page.text("#screen") and not page.all("#screen .bones"), "the screen of the last click", patience=10)


def a_viewer_sees_and_changes_nothing(page):
    page.sign_in(GIVEN["viewer"])
    page.go("accounts")
    page.wait(lambda: page.row("b0"), "the accounts")
    assert not page.all("button[aria-haspopup]"), "no menus of what a viewer may not"
    offered = [one.text for one in page.all("#screen .head button")]
    assert offered == ["Try a request…"], "no buttons for what a viewer may not: nothing is sent by that"
    page.go("accounts/b0")
    page.wait(lambda: page.one(".drawer .facts dd"), "one account")
    assert not page.all(".drawer .tools-of button")
    page.press(".drawer header button")
    page.go("keys")
    page.go("config")
    page.wait(lambda: "pools" in page.text("#screen"), "the configuration")


def the_gateway_goes_away(page):
    page.go("overview")
    page.wait(lambda: page.text("#tiles"), "numbers")
    os.kill(GIVEN["pid"], signal.SIGKILL)
    page.wait(lambda: "does not answer" in page.text("#banner"), "the page to say so")
    assert page.text("#pulse") == "Not reached"
    assert page.text("#tiles"), "what was last known stays"
    page.shot("away")


with Page() as page:
    a_thousand_accounts(page)
    too_many_listen(page)
    another_tab_signs_in(page)
    nothing_yet(page)
    a_late_screen_covers_nothing(page)
    page.press("#leave")
    a_viewer_sees_and_changes_nothing(page)
    # Its session ends elsewhere, as when its token is taken away.
    # What the gateway refused, as it should.
    page.assert_nothing_went_wrong(but=["/api/v1/accounts/b0/reset", "/api/v1/events"])
    the_gateway_goes_away(page)
