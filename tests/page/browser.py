"""A real Chromium on the dashboard, as the tests use it: it waits for what is to be seen and never sleeps for luck."""

import glob
import json
import os
import tempfile
import time
import urllib.error
import urllib.request

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

GIVEN = json.loads(os.environ["PAGE_TEST"])
PATIENCE = 45

SIZES = {"light": (1440, 900, False), "dark": (1440, 900, False), "phone": (390, 844, True)}


class Page:
    """One browser. As a context manager it ends its browser whatever happened."""

    def __init__(self, kind="light", language="en-US"):
        self.profile = tempfile.TemporaryDirectory(prefix="poolgate-page-", ignore_cleanup_errors=True)
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for argument in [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
            "--disable-background-networking", "--no-first-run", f"--lang={language}", f"--user-data-dir={self.profile.name}",
        ]:
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
        # What goes wrong in the page is a failure of the test, and so is a script that should not have run.
        self.command("Page.addScriptToEvaluateOnNewDocument", source="""
            window.wrong = [];
            addEventListener("error", (event) => event.message && wrong.push(event.message));
            addEventListener("unhandledrejection", (event) => wrong.push(String(event.reason?.stack ?? event.reason)));
            addEventListener("securitypolicyviolation", (event) => wrong.push(`CSP ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`));
            Object.defineProperty(window, "planted", { set() { wrong.push("a planted script ran"); } });
        """)
        self.be(kind)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is not None:
            self.shot("failed")
            print("the page says:", self.driver.execute_script("return document.body.innerText")[:3000])
            print("the console says:", self.driver.get_log("browser")[-20:])
            print("went wrong:", self.driver.execute_script("return window.wrong"))
        self.driver.quit()
        self.profile.cleanup()

    def command(self, name, **given):
        return self.driver.execute_cdp_cmd(name, given)

    def be(self, kind):
        """A desktop by day or by night, or a phone."""
        self.kind = kind
        width, height, phone = SIZES[kind]
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = "dark" if kind == "dark" else "light"
        # What moves is between two states, and neither a picture nor a measure of contrast is to show that.
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        self.command("Emulation.setEmulatedMedia", features=[{"name": name, "value": value} for name, value in features.items()])

    def open(self, path="/"):
        self.driver.get(GIVEN["admin"] + path)

    def sign_in(self, token=None):
        self.open()
        field = self.wait(lambda: self.one("input[name=token]"), "the login")
        field.send_keys(token or GIVEN["token"], Keys.ENTER)
        self.wait(lambda: self.one("body.in"), "to be let in")

    def go(self, screen):
        self.driver.execute_script("location.hash = arguments[0]", f"#/{screen}")
        name = screen.split("/")[0].split("?")[0]
        self.wait(lambda: self.one(f"#screen[data-screen={name}] h1") and not self.all("#screen .bones"), f"{name} to be filled")

    def wait(self, look, what, patience=None):
        """Until `look` finds something; what it found."""
        ends = time.monotonic() + (patience or PATIENCE)
        while True:
            try:
                found = look()
                if found:
                    return found
            except StaleElementReferenceException:
                pass
            if time.monotonic() > ends:
                raise AssertionError(f"waited in vain for {what}")
            time.sleep(0.05)

    def one(self, selector):
        found = self.driver.find_elements(By.CSS_SELECTOR, selector)
        return found[0] if found else None

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def named(self, selector, text):
        """The element of this selector whose whole text is `text`."""
        script = "return [...document.querySelectorAll(arguments[0])].find((one) => one.textContent.trim() === arguments[1])"
        return self.driver.execute_script(script, selector, text)

    def press(self, selector, text=None):
        """Clicks it, once it is there and nothing lies over it."""
        what = f"{selector} {text or ''}"

        def click():
            found = self.named(selector, text) if text else self.one(selector)
            if not found:
                return None
            try:
                found.click()
            except StaleElementReferenceException:
                return None
            except WebDriverException as error:
                if "intercepted" in str(error) or "not interactable" in str(error):
                    return None
                raise
            return True

        self.wait(click, f"{what} to click")

    def fill(self, label, text):
        """The field of this label."""
        field = self.wait(lambda: self.named("dialog[open] label", label), f"the field {label}")
        field = self.driver.find_element(By.ID, field.get_attribute("for"))
        field.clear()
        field.send_keys(text)

    def choose(self, label, text):
        """What the list of this label has under `text`."""
        field = self.wait(lambda: self.named("dialog[open] label", label), f"the list {label}")
        Select(self.driver.find_element(By.ID, field.get_attribute("for"))).select_by_visible_text(text)

    def row(self, name):
        """The text of the table's row of this name, in one line; nothing if there is none."""
        script = """const rows = [...document.querySelectorAll("#screen tbody tr:not(.pad)")];
            const named = (row) => [...row.querySelectorAll("a, .two-lines > :first-child")].some((one) => one.textContent === arguments[0]);
            const row = rows.find(named);
            return row ? [...row.cells].map((cell) => cell.innerText).join(" | ").replaceAll("\\n", " ") : ''"""
        return self.driver.execute_script(script, name)

    def text(self, selector):
        return self.driver.execute_script("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def shot(self, name):
        os.makedirs(GIVEN["shots"], exist_ok=True)
        self.driver.save_screenshot(f"{GIVEN['shots']}/{name}-{self.kind}.png")

    def assert_nothing_went_wrong(self, but=()):
        wrong = self.driver.execute_script("return window.wrong")
        assert not wrong, wrong
        # A call that was refused, such as the one that asks whether there is a session, is in the console too.
        said = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
        said = [message for message in said if "/api/v1/session" not in message and not any(part in message for part in but)]
        assert not said, said

    def assert_no_sideways_scrolling(self, where):
        over = self.driver.execute_script("return document.documentElement.scrollWidth - innerWidth")
        assert over <= 0, f"{where} is {over} pixels too wide on {self.kind}"

    def assert_accessible(self, where):
        """axe finds nothing serious on what is shown."""
        if not self.driver.execute_script("return Boolean(window.axe)"):
            (path,) = glob.glob(f"{GIVEN['axe']}/lib/python*/site-packages/axe_playwright_python/axe.min.js")
            with open(path, encoding="utf-8") as file:
                self.driver.execute_script(file.read())
        found = self.driver.execute_async_script("""const done = arguments[0];
            axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) => done(violations
                .filter(({ impact }) => ["serious", "critical"].includes(impact))
                .map(({ id, help, nodes }) => `${id} (${help}): ${nodes.slice(0, 4).map((node) => `${node.html.slice(0, 160)} ${node.failureSummary.split("\\n").at(-1).trim()}`).join(" || ")}`)),
                (error) => done([String(error)]));""")
        assert not found, f"{where} on {self.kind}:\n  " + "\n  ".join(found)


def ask(url, body=None, headers=None, method=None):
    """(status, text) of a request; a body is sent as JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **(headers or {})}, method=method)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def admin(path, body=None, method=None):
    """A call of the management API beside the page; its answer as JSON."""
    status, text = ask(GIVEN["admin"] + path, body, {"Authorization": f"Bearer {GIVEN['token']}"}, method)
    assert status < 300, f"{path}: {status} {text}"
    return json.loads(text) if text else None


def chat(model="gpt-5", key=None, **more):
    """A request of a client; its status."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], **more}
    return ask(f"{GIVEN['gateway']}/v1/chat/completions", body, headers)[0]


def vendor(n, settings):
    """Changes what the simulated vendor behind account `a<n>` does."""
    status, text = ask(f"{GIVEN['mocks'][n]}/mock/settings", settings)
    assert status == 200, text


def served(n):
    """How many requests the simulated vendor behind account `a<n>` has seen."""
    return json.loads(ask(f"{GIVEN['mocks'][n]}/mock/stats")[1])["requests"]
