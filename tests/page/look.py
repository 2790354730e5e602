"""Every screen full of what others wrote: no script runs, nobody is kept out, nothing is too wide; and what it looks like."""

from selenium.webdriver.common.keys import Keys

from browser import GIVEN, Page, admin, ask, chat, vendor

IMG = "<img src=x onerror=planted=1>"
SCREENS = ["overview", "accounts", "requests", "keys", "slots", "usage", "instances", "config"]
ALL = [*SCREENS, "accounts/a1", "instances/local"]


def plant():
    """Names, labels, models and errors that would be scripts, were they read as markup."""
    key = admin("/api/v1/keys", {"name": IMG, "tier": "slotted", "notes": IMG, "labels": {"team": IMG}})["key"]
    bound = admin("/api/v1/keys", {"name": "bound", "tier": "default", "account": "a0", "max_concurrent": 3, "days": 30})["key"]
    assert chat(key=key) == 200
    for model in ["gpt-5", "claude-sonnet-5", IMG]:
        for _ in range(3):
            chat(model, key=bound)
    # Its quota is used up: it is out for an hour, longer than any machine takes for this.
    vendor(1, {"behaviour": {"status": "402"}})
    vendor(2, {"behaviour": {"status": "429", "retry-after": "300"}})
    third = admin("/api/v1/keys", {"name": "third", "tier": "default"})["key"]
    for _ in range(8):
        chat(key=third)
    return third


def first_paint(page):
    """What the first screen costs to load, in bytes on the wire."""
    page.command("Network.enable")
    page.command("Network.clearBrowserCache")
    page.sign_in()
    page.wait(lambda: page.one("#tiles"), "the overview")
    sizes = page.driver.execute_script("return performance.getEntries().filter((one) => one.transferSize).map((one) => [one.name, one.transferSize])")
    total = sum(size for _, size in sizes)
    print(f"first paint: {total} bytes in {len(sizes)} answers")
    assert 20_000 < total < 200_000, sizes


def every_screen(page, looked_at):
    for screen in SCREENS:
        page.go(screen)
        wait_for_what_is_planted(page, screen)
        page.assert_no_sideways_scrolling(screen)
        if screen in looked_at:
            page.assert_accessible(screen)
        page.shot(screen)
    for screen, where in [("accounts/a1", ".drawer .facts dd"), ("instances/local", ".drawer pre")]:
        page.go(screen)
        page.wait(lambda: page.one(where), screen)
        page.assert_no_sideways_scrolling(screen)
        if screen in looked_at:
            page.assert_accessible(screen)
        page.shot(screen.replace("/", "-"))
        page.press(".drawer header button")


def wait_for_what_is_planted(page, screen):
    shows = {"requests": IMG, "keys": IMG, "slots": IMG, "usage": IMG, "config": IMG, "accounts": "needs login", "instances": "local", "overview": "cooling"}
    wanted = shows[screen]
    page.wait(lambda: wanted in page.text("#screen") or wanted.replace("needs login", "cooling") in page.text("#screen"), f"{wanted} on {screen}")


def forms(page, key):
    page.go("keys")
    page.press("#screen .head button")
    page.wait(lambda: page.one("dialog form"), "the form for a key")
    page.press("dialog summary")
    page.assert_accessible("the form for a key")
    page.shot("new-key")
    page.press("dialog footer button", "Cancel")
    page.go("accounts")
    page.press("#screen .head button", "Try a request…")
    page.wait(lambda: page.one("dialog form"), "the form for a request that is not made")
    page.fill("Key of a client", key)
    page.press("dialog button[type=submit]")
    page.wait(lambda: page.all("#routed dt"), "where it would not go")
    page.assert_accessible("the form for a request that is not made")
    page.press("dialog footer button", "Close")
    page.press("#screen .head button", "Add an account")
    page.wait(lambda: page.one("dialog form"), "the form for an account")
    page.assert_accessible("the form for an account")
    page.shot("new-account")
    page.press("dialog footer button", "Cancel")
    page.go("requests")
    page.press("#screen tbody .link")
    page.wait(lambda: page.one(".drawer .facts"), "one request")
    page.assert_accessible("one request")
    page.shot("request")
    page.press(".drawer header button")


def keyboard(page):
    """Screens, search and rows without a mouse."""
    body = page.one("body")
    for key, screen in [("a", "accounts"), ("u", "usage"), ("a", "accounts")]:
        body.send_keys("g", key)
        page.wait(lambda: page.driver.execute_script("return location.hash") == f"#/{screen}", f"g {key} to go to {screen}")
    page.wait(lambda: page.row("a0"), "the accounts")
    body.send_keys("/")
    focused = lambda: page.driver.switch_to.active_element
    page.wait(lambda: focused().get_attribute("type") == "search", "the search to have the focus")
    focused().send_keys("a0")
    page.wait(lambda: not page.row("a1") and page.row("a0"), "what was searched")
    focused().send_keys(Keys.ESCAPE)
    body.send_keys(Keys.ARROW_DOWN)
    page.wait(lambda: focused().text == "a0", "the first row to have the focus")
    focused().send_keys(Keys.ENTER)
    page.wait(lambda: page.one(".drawer .facts"), "its window")
    focused().send_keys(Keys.ESCAPE)
    page.wait(lambda: not page.one(".drawer"), "its window to be gone")
    body.send_keys("?")
    page.wait(lambda: page.one("dialog[open] kbd"), "the keys")
    page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)


def in_chinese(page):
    page.press("#language")
    page.wait(lambda: page.driver.execute_script("return document.documentElement.lang") == "zh-CN", "Chinese")
    page.go("overview")
    page.wait(lambda: "概览" in page.text("#screen h1"), "the overview in Chinese")
    page.shot("overview-zh")
    page.driver.refresh()
    page.wait(lambda: "概览" in page.text("#screen h1"), "the language to be remembered")
    # No word was forgotten: a key of the table looks like `screen.word`.
    for screen in SCREENS:
        page.go(screen)
        lost = page.driver.execute_script("""return document.body.innerText.match(/\\b(account|column|form|keys?|state|tile|usage|slots|config|instances?|requests|overview|action|outcome)s?\\.[a-z_]+\\b/g)
            ?.filter((word) => !/\\.(example|yaml|token)$/.test(word)) ?? []""")
        lost = [word for word in lost if not word.startswith(("accounts.a", "config.yaml"))] if screen == "config" else lost
        assert not lost or screen == "config", (screen, lost)
    page.press("#language")
    page.wait(lambda: page.driver.execute_script("return document.documentElement.lang") == "en", "English")


KEY = plant()
with Page() as page:
    first_paint(page)
    every_screen(page, ALL)
    forms(page, KEY)
    keyboard(page)
    in_chinese(page)
    # The same markup in other colours and places: those that have most of them, or all of it in a soak.
    some = ["overview", "accounts", "requests", "accounts/a1"]
    for kind in ["dark", "phone"]:
        page.be(kind)
        every_screen(page, ALL if GIVEN["soak"] else some)
    page.assert_nothing_went_wrong()
