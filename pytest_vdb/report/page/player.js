"use strict";
// Candidate, baseline and difference of one sample: one film whose panels lie in a row, drawn on
// three canvases in one go, so that all show the same frame.
class Player {
  constructor(make) {
    this.make = make;
    this.film = null;
    this.frame = 0;
    this.video = make("video", { muted: true, playsInline: true, preload: "auto" });
    this.video.addEventListener("seeked", () => this.draw(this.current()));
    // Not the video's own loop: in Chromium that also leaves a last frame on which it was paused.
    this.wanted = false;
    this.video.addEventListener("ended", () => { if (this.wanted) { this.video.currentTime = 0; this.video.play(); } });
    this.video.addEventListener("loadeddata", () => this.seek(this.first));
    this.video.addEventListener("error", () => this.say("this browser cannot play the preview"));
    for (const event of ["play", "pause"]) this.video.addEventListener(event, () => this.label());
    this.panels = make("div", { className: "panels" });
    this.play = make("button", { type: "button", textContent: "▶", title: "play, pause (Space)" });
    this.range = make("input", { type: "range", min: 0, value: 0, ariaLabel: "frame" });
    this.count = make("output", {});
    this.toggle = make("button", { type: "button", textContent: "difference", title: "difference on, off (D)" });
    this.speed = make("select", { ariaLabel: "speed", title: "speed" });
    for (const by of [0.1, 0.25, 0.5, 1, 2]) this.speed.append(make("option", { value: by, textContent: `${by}×`, selected: by === 1 }));
    const button = (text, title, act) => { const one = make("button", { type: "button", textContent: text, title }); one.onclick = act; return one; };
    this.worst = button("worst frame", "the frame that differs most (W)", () => this.toWorst());
    this.play.onclick = () => this.playPause();
    this.toggle.onclick = () => this.difference();
    this.range.oninput = () => this.seek(Number(this.range.value));
    this.speed.onchange = () => { this.video.playbackRate = Number(this.speed.value); };
    this.controls = make("div", { className: "controls" });
    this.controls.append(button("|◀", "first frame (Home)", () => this.seek(0)), button("◀|", "a frame back (←)", () => this.step(-1)), this.play,
      button("▶|", "a frame on (→)", () => this.step(1)), this.range, this.count, this.speed, this.worst, this.toggle);
    this.message = make("p", {});
    this.root = make("div", {});
    this.root.append(this.panels, this.controls, this.message, this.video);
    this.withDifference = true;
    this.follow();
  }

  say(text) { this.message.replaceChildren(this.make("small", { textContent: text })); }

  // Show `film`, beginning with its worst frame or `first`; `names` are those of the two sides.
  show(film, names, first) {
    this.film = film;
    this.stop();
    this.canvases = [];
    this.panels.replaceChildren();
    const playable = Boolean(film && film.src);
    this.controls.hidden = !playable;
    this.say(film ? film.why : "");
    if (!playable) { this.video.removeAttribute("src"); return; }
    const pair = film.panels === 3 || film.kept === "identical";
    this.total = Math.max(...film.frames);
    this.range.max = this.total - 1;
    this.worst.hidden = this.toggle.hidden = !pair;
    this.worst.disabled = film.distances.length === 0;
    this.add(names[0], 0);
    if (pair) {
      this.add(names[1], film.panels === 3 ? 1 : 0);
      if (this.withDifference) this.add(film.panels === 3 ? "difference" : "difference: none", film.panels === 3 ? 2 : -1);
    } else {
      const absent = this.make("figure", {});
      absent.append(this.make("figcaption", { textContent: names[1] }), this.make("div", { className: "absent", textContent: film.why }));
      this.panels.append(absent);
      this.say("");
    }
    this.panels.className = `panels ${pair ? (this.withDifference ? "" : "plain") : "alone"}`;
    this.first = first ?? this.worstFrame();
    this.video.src = film.src;
    this.video.playbackRate = Number(this.speed.value);
  }

  add(caption, panel) {
    const canvas = this.make("canvas", { width: this.film.size[0], height: this.film.size[1] });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", caption);
    if (panel === 2) canvas.title = "the square root of each grey level's difference, so that small ones show";
    const figure = this.make("figure", {});
    figure.append(this.make("figcaption", { textContent: caption }), canvas);
    this.panels.append(figure);
    this.canvases.push([canvas, panel]);
  }

  worstFrame() {
    const found = this.film.distances;
    return found.length ? found.indexOf(Math.max(...found)) : 0;
  }

  draw(frame) {
    if (!this.film || this.video.readyState < 2) return;
    this.frame = Math.min(frame, this.total - 1);
    const [width, height] = this.film.size;
    for (const [canvas, panel] of this.canvases) {
      const paper = canvas.getContext("2d");
      if (panel < 0) paper.clearRect(0, 0, width, height);
      else paper.drawImage(this.video, panel * width, 0, width, height, 0, 0, width, height);
      canvas.dataset.frame = this.frame;
    }
    this.range.value = this.frame;
    const distance = this.film.distances[this.frame];
    this.count.textContent = `frame ${this.frame + 1} of ${this.total}` + (distance === undefined ? "" : ` · Δ ${distance.toPrecision(3)}`);
    this.onframe?.(this.frame);
  }

  // The frame at the video's own clock, which a seek sets to the middle of one.
  current() { return Math.floor(this.video.currentTime * (this.film?.fps ?? 1)); }

  // Redraw whenever the browser has a new frame: by that frame's own time as it plays, by the clock
  // as it stands. What comes late, while a seek is under way, is of a frame that was left.
  follow() {
    const next = (time) => {
      if (!this.video.seeking) this.draw(this.video.paused ? this.current() : Math.round(time * (this.film?.fps ?? 1)));
      this.follow();
    };
    if (this.video.requestVideoFrameCallback) this.video.requestVideoFrameCallback((_, facts) => next(facts.mediaTime));
    else requestAnimationFrame(() => { if (!this.video.paused) this.draw(this.current()); this.follow(); });
  }

  seek(frame) {
    if (!this.film?.src) return;
    this.frame = Math.max(0, Math.min(this.total - 1, frame));
    this.video.currentTime = (this.frame + 0.5) / this.film.fps; // in its middle: no rounding leads elsewhere
  }

  stop() { this.wanted = false; this.video.pause(); }
  step(by) { this.stop(); this.seek(this.frame + by); }
  toWorst() { this.stop(); this.seek(this.worstFrame()); }
  playPause() { if (!this.film?.src) return; this.wanted = this.video.paused; if (this.wanted) this.video.play(); else this.video.pause(); }
  label() { this.play.textContent = this.video.paused ? "▶" : "❚❚"; }
  difference() {
    this.withDifference = !this.withDifference;
    this.again?.(this.frame);
  }
}
