// Let the search run when the site is opened from a folder: a browser starts no Worker from file://.
// The worker's script runs in a hidden frame instead. Messages are copied, and arrive later, as a
// Worker's do.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.srcdoc = "<!doctype html><title>search</title>";
      this.ready = new Promise((resolve, reject) => {
        this.frame.onload = () => {
          const scope = this.frame.contentWindow;
          const script = scope.document.createElement("script");
          scope.postMessage = (message) => {
            const data = structuredClone(message);
            setTimeout(() => this.receive(new MessageEvent("message", { data })));
          };
          Object.assign(script, { src: new URL(url, location.href).href, onerror: reject });
          script.onload = () => resolve(scope);
          scope.document.head.append(script);
        };
      });
      this.ready.catch((event) => this.onerror?.(event));
      document.documentElement.append(this.frame);
    }
    postMessage(message) {
      const copy = structuredClone(message);
      this.ready.then((scope) => {
        const data = scope.structuredClone(copy);
        scope.dispatchEvent(new scope.MessageEvent("message", { data }));
      });
    }
    receive(event) {
      this.dispatchEvent(event);
      this.onmessage?.(event);
    }
    terminate() {
      this.frame.remove();
    }
  };
}
