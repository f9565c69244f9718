// Plays the sound of a clip, from the playhead or inside the selection, once or in a loop.

const STARTS_AND_STOPS = ["play", "pause", "ended", "error"]; // events of the sound

export class Player {
  /** `onChange` is called when playing starts or stops, `onTime` with seconds while it plays, at least in each frame. */
  constructor({ onChange, onTime }) {
    this.onChange = onChange;
    this.onTime = onTime;
    this.audio = null;
    this.time = 0; // seconds; where the playhead stands
    this.loop = false;
    this.range = null; // [start, end] in seconds, or null for the whole clip
    this.frame = 0;
  }

  get playing() {
    return Boolean(this.audio && !this.audio.paused);
  }

  /** Take another sound, or none; the playhead goes back to the beginning. */
  open(address) {
    this.close();
    this.time = 0;
    if (address) {
      this.audio = new Audio();
      this.audio.preload = "auto";
      this.audio.src = address;
      for (const name of STARTS_AND_STOPS) {
        this.audio.addEventListener(name, this.changed);
      }
      this.audio.addEventListener("timeupdate", this.watch); // comes in hidden tabs, too, where no frame does
    }
    this.onChange();
  }

  close() {
    cancelAnimationFrame(this.frame);
    if (this.audio) {
      for (const name of STARTS_AND_STOPS) {
        this.audio.removeEventListener(name, this.changed);
      }
      this.audio.removeEventListener("timeupdate", this.watch);
      this.audio.pause();
      this.audio.removeAttribute("src");
      this.audio.load(); // lets go of the connection
      this.audio = null;
    }
  }

  toggle() {
    return this.playing ? this.audio.pause() : this.play();
  }

  async play() {
    if (!this.audio) {
      return;
    }
    const [start, end] = this.bounds();
    if (this.time < start || this.time >= end - 0.01) {
      this.time = start;
    }
    this.audio.currentTime = this.time;
    try {
      await this.audio.play();
    } catch (error) {
      if (error.name !== "AbortError") {
        console.warn("The sound of the view cannot be played.", error);
      }
    }
  }

  pause() {
    this.audio?.pause();
  }

  /** Put the playhead somewhere, also while it plays. */
  seek(time) {
    this.time = Math.max(time, 0);
    if (this.audio) {
      this.audio.currentTime = this.time;
    }
    this.onTime(this.time);
  }

  bounds() {
    const length = Number.isFinite(this.audio?.duration) ? this.audio.duration : Infinity;
    const [start, end] = this.range ?? [0, length];
    return [start, Math.min(end, length)];
  }

  changed = () => {
    cancelAnimationFrame(this.frame);
    if (this.playing) {
      this.frame = requestAnimationFrame(this.tick);
    } else if (this.audio?.ended && this.loop) {
      this.time = this.bounds()[0];
      this.play();
    }
    this.onChange();
  };

  tick = () => {
    this.watch();
    if (this.playing) {
      this.frame = requestAnimationFrame(this.tick);
    }
  };

  /** Follow the sound; at the end of the selection it stops, or begins again. */
  watch = () => {
    if (!this.playing) {
      return;
    }
    const [start, end] = this.bounds();
    this.time = this.audio.currentTime;
    if (this.time >= end && this.range) {
      if (this.loop) {
        this.audio.currentTime = start;
        this.time = start;
      } else {
        this.audio.pause();
        this.time = end;
      }
    }
    this.onTime(this.time);
  };
}
