/** BiasGelu (com.microsoft 1): exact Gelu of x + bias. */
import { defineBiasedGelu } from './families/biased-gelu';
import { gelu } from './families/special-functions';

export const BiasGelu = defineBiasedGelu('BiasGelu', 'gelu', gelu);
