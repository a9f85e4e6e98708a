// What of Observable Plot the site's charts use; scripts/vendor-plot bundles this and leaves out the rest.
export { dot, gridX, gridY, axisX, axisY, line, plot, ruleX, ruleY } from "@observablehq/plot";
