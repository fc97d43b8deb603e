// Without this the page works all the same: it then reloads itself while a step runs.
"use strict";

const EVERY_MS = 700;

async function follow() {
  try {
    const answer = await fetch(location.pathname, { credentials: "same-origin" });
    const text = await answer.text();
    const fresh = new DOMParser().parseFromString(text, "text/html");
    for (const part of ["main", "footer"]) {
      const [old, next] = [document.querySelector(part), fresh.querySelector(part)];
      if (old && next && old.innerHTML !== next.innerHTML) old.replaceWith(next);
    }
  } catch {
    // the phone was out of reach for a moment
  }
  const result = document.getElementById("result");
  if (document.getElementById("live")) setTimeout(follow, EVERY_MS);
  else if (result) {
    result.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

if (document.getElementById("live")) setTimeout(follow, EVERY_MS);

// a second tap of a cold thumb asks for nothing
document.addEventListener("submit", (event) => {
  if (event.target.dataset.sent) event.preventDefault();
  event.target.dataset.sent = "yes";
});
addEventListener("pageshow", () => {
  for (const form of document.forms) delete form.dataset.sent;
});
